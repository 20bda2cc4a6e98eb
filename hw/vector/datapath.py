"""The arithmetic of the vector unit: all lanes, the reductions of rows, and what travels beside them."""

from itertools import pairwise
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import float_layout, unpack
from hw.config import AcceleratorConfig, ceil_log2
from hw.elements import FP32
from hw.isa import RowUse, StreamUse, Unit, VectorSource
from hw.ports import descriptor_layout
from hw.share import shared
from hw.timing import VECTOR_STAGES, VectorStages
from hw.vector.lane import MINUS_INFINITY, VectorLane
from hw.vector.layouts import RowResult, slice_layout
from hw.vector.row_maximum import RowMaximum
from hw.vector.row_sum import RowSum

__all__ = ["Datapath"]

ONE, MINUS_ZERO = 0x3F80_0000, 0x8000_0000


class Datapath(wiring.Component):
    """Datapath: slices of a command in, slices of results out, and scalars of rows. Initiation interval 1 cycle.

    The pipeline moves as a whole or stands still: it moves when `o` is taken or empty, and every stream that a stage asks for in
    this cycle has something. Each stream but `i` is asked for by the stage that needs it, some cycles after the slice has
    entered, so that nothing has to be carried along; slices without a use for it ask for nothing. Payloads go straight into
    arithmetic: they should come out of registers.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor)
        Stable while `busy`.
    i : In(stream of {slice: `slice_layout(config)`, a: lanes × 32 bits})
        int32 words of the sources ACCUMULATOR, INT8 and UINT4 (widened), float32 words of the others, and of ACCUMULATOR with
        floating-point activations. Slices of a row follow each
        other, and so do rows; there may be gaps.
    b : In(stream of lanes × 32 bits)
        One item for each slice, if the command has `b_en`.
    c : In(stream of lanes × 32 bits)
        One item for each slice, if the command's `c_use` is not NONE.
    row0 : In(stream of 32 bits)
        One item for each row, taken with its last slice, if the command has `row0_en` and its source is not ROW (then `i.a` is
        that scalar).
    row1 : In(stream of 32 bits)
        One item for each row, taken with its last slice, if the command's `row1_use` is not NONE. As it is in memory: the sign is
        changed here.
    flush : In(1)
        No more slices of the command come: what a row in progress would still wait for does not come. Only needed after a fault,
        to be held until `busy` falls; the sum of a row that lacks its last slice is never shown.
    o : Out(stream of {slice: `slice_layout(config)`, words: lanes × 32 bits})
        float32 words of the outputs FLOAT32 and SCALAR; of INT8 and UINT4 the low 8 and 4 bits. Every slice comes out, also of
        commands whose output is NONE.
    sums, maxima : Out(RowResult)
        A sum some cycles after the last slice of its row has been taken from `o`, a maximum likewise.
    busy : Out(1)
        A slice or an unfinished scalar is inside.

    `row0`, `row1`, `flush`, `sums` and `maxima` are there only with `config.vector` = "transformer".
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        words = data.ArrayLayout(32, config.vector_lanes)
        members: dict[str, Any] = {
            "command": In(descriptor_layout(Unit.VECTOR)),
            "i": In(stream.Signature(data.StructLayout({"slice": slice_layout(config), "a": words}))),
            "b": In(stream.Signature(words)),
            "c": In(stream.Signature(words)),
            "o": Out(stream.Signature(data.StructLayout({"slice": slice_layout(config), "words": words}))),
            "busy": Out(1),
        }
        if config.vector == "transformer":
            members |= {"row0": In(stream.Signature(32)), "row1": In(stream.Signature(32)), "flush": In(1),
                        "sums": Out(RowResult), "maxima": Out(RowResult)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        stages, transformer = VECTOR_STAGES[config.vector], config.vector == "transformer"
        seed = stages.result + ceil_log2(config.vector_lanes)       # where the running maximum of a row begins
        depth = max(stages.output, seed) if transformer else stages.output

        # Descriptions keep step with the lanes.
        advance = Signal()
        valid = Signal(depth)
        valids = Cat(self.i.valid, valid)
        slices = [self.i.p.slice]
        for stage in range(1, depth + 1):
            slices.append(Signal(slice_layout(config), name=f"slice_{stage}", reset_less=True))
        with m.If(advance):
            m.d.sync += valid.eq(valids)
            for before, after in pairwise(slices):
                m.d.sync += after.eq(before)

        lanes = []
        for number in range(config.vector_lanes):
            scalar_functions = transformer and number == 0
            limits = config.range_restriction
            lane = VectorLane(unit=config.vector, scalar_functions=scalar_functions, limits=limits)
            kind = f"{config.vector}{'_limits' * limits}{'_scalar' * scalar_functions}"
            m.submodules[f"lane_{number}"] = shared(platform, f"vector_lane_{kind}", lane)
            m.d.comb += [lane.enable.eq(advance), lane.a.eq(self.i.p.a[number]), self.o.p.words[number].eq(lane.o)]
            lanes.append(lane)
        m.d.comb += [
            self.i.ready.eq(advance),
            self.o.p.slice.eq(slices[stages.output]),
            self.busy.eq(valid.any()),
        ]

        self._operands(m, lanes)
        if not transformer:
            self._maximum(m, lanes)
        asked = [self._ask(m, advance, self.b, [(self.command.b_en, stages.scale)], valids),
                 self._ask(m, advance, self.c, self._stages_of_c(stages), valids)]
        if transformer:
            self._transform(m, stages, lanes, slices)
            self._reduce(m, advance, stages, lanes, valids, slices, seed)
            asked += [self._ask(m, advance, self.row0, [(self._has_row0(), stages.row)], valids, slices),
                      self._ask(m, advance, self.row1, self._stages_of_row1(stages, seed), valids, slices)]
        # A slice is offered only when it can leave: where a stream is awaited, nothing moves.
        there = Cat(asked).all()
        m.d.comb += [
            self.o.valid.eq(valids[stages.output] & there),
            advance.eq(there & (~valids[stages.output] | self.o.ready)),
        ]
        return m

    def _ask(self, m: Module, advance: Value, port: Any, places: list[tuple[Value, int]], valids: Value,
             slices: list[Any] | None = None) -> Value:
        """Take an item of `port` for each slice at the place that the command uses; of row scalars (`slices`) for each last one.

        Return whether the stream does not hold up the pipeline.
        """
        asks = Cat(used & valids[stage] for used, stage in places).any()
        takes = asks if slices is None else Cat(used & valids[stage] & slices[stage].last for used, stage in places).any()
        m.d.comb += port.ready.eq(advance & takes)
        return ~asks | port.valid

    def _stages_of_c(self, stages: VectorStages) -> list[tuple[Value, int]]:
        """Return the stages at which C may be taken, each with whether the command takes it there."""
        use = self.command.c_use
        places = [(use == StreamUse.BIAS, stages.bias)]
        if self.config.vector == "transformer":
            places += [*self._middle(stages, use == StreamUse.MIDDLE), (use == StreamUse.POST, stages.post)]
        return places

    def _stages_of_row1(self, stages: VectorStages, seed: int) -> list[tuple[Value, int]]:
        """Return the stages at which row1 may be taken, likewise."""
        use = self.command.row1_use
        return [*self._middle(stages, use == RowUse.MIDDLE), (use == RowUse.POST, stages.post), (use == RowUse.SEED, seed)]

    def _middle(self, stages: VectorStages, used: Value) -> list[tuple[Value, int]]:
        """Return where the operand of `middle` is taken; of a command that does nothing with it, where the maximum would be."""
        adds = self.command.middle[0] if self.config.range_restriction else self.command.middle == 1
        return [(used & ~adds, stages.maximum), (used & adds, stages.add)]

    def _has_row0(self) -> Value:
        return self.command.row0_en & (self.command.source != VectorSource.ROW)

    def _row1(self) -> Value:
        return self.row1.p ^ (self.command.row1_negate << 31)

    def _operand(self, number: int, stream_use: StreamUse, row_use: RowUse) -> Value:
        """Return the operand of a step for one lane."""
        command = self.command
        scalar = Mux(command.row1_use == row_use, self._row1(), command.constant)
        return Mux(command.c_use == stream_use, self.c.p[number], scalar)

    def _operands(self, m: Module, lanes: list[VectorLane]) -> None:
        """Give the lanes bias and scale."""
        command = self.command
        for number, lane in enumerate(lanes):
            m.d.comb += [
                lane.bias.eq(Mux(command.c_use == StreamUse.BIAS, self.c.p[number], 0)),
                lane.scale.eq(Mux(command.b_en, self.b.p[number], command.scale)),
            ]

    def _maximum(self, m: Module, lanes: list[VectorLane]) -> None:
        """Give the lanes for requantization the constant as an integer, long before they use it."""
        command = self.command
        m.submodules.to_int = to_int = FloatToInt(width=8, fmt=FP32)
        word = float_layout(FP32)(command.constant)
        nan = Signal(reset_less=True)
        m.d.comb += [to_int.enable.eq(1), to_int.i.eq(word)]
        m.d.sync += nan.eq((command.middle == 2) & unpack(FP32, word, subnormals=False).nan)
        for lane in lanes:
            m.d.comb += [lane.at_least.eq(Mux(command.middle == 2, to_int.o, -128)), lane.nan.eq(nan)]

    def _transform(self, m: Module, stages: VectorStages, lanes: list[VectorLane], slices: list[Any]) -> None:
        """Give the lanes what only those of the unit for transformers take."""
        command = self.command
        float_sources = [VectorSource.FLOAT32, VectorSource.ROW, VectorSource.SCALAR]
        if self.config.float_activations:
            float_sources.append(VectorSource.ACCUMULATOR)
        floating = Cat(command.source == source for source in float_sources).any()
        for number, lane in enumerate(lanes):
            operand = self._operand(number, StreamUse.MIDDLE, RowUse.MIDDLE)
            m.d.comb += [
                lane.floating.eq(floating),
                lane.row.eq(Mux(self._has_row0(), self.row0.p, ONE)),
                lane.at_least.eq(Mux(command.middle == 2, operand, MINUS_INFINITY)),
                lane.addend.eq(Mux(command.middle == 1, operand, MINUS_ZERO)),
                lane.masked.eq(command.mask_en & (slices[stages.function].valid_count <= number)),
                lane.function.eq(command.function),
                lane.factor.eq(self._operand(number, StreamUse.POST, RowUse.POST)),
                lane.times.eq(Mux(command.sum == 2, 2, command.post == 2)),
                lane.post.eq(command.post != 0),
                lane.output.eq(command.output),
            ]
            if self.config.range_restriction:
                there = (command.c_use == StreamUse.MIDDLE) | (command.row1_use == RowUse.MIDDLE)
                m.d.comb += [lane.limited.eq(command.middle == 3), lane.limit.eq(command.constant)]
                with m.If((command.middle == 3) & there):
                    m.d.comb += lane.addend.eq(operand)

    def _reduce(self, m: Module, advance: Value, stages: VectorStages, lanes: list[VectorLane], valids: Value, slices: list[Any],
                seed: int) -> None:
        """Sums and maxima of rows."""
        command, here = self.command, slices[stages.result]
        m.submodules.row_sum = row_sum = RowSum(lanes=len(lanes))
        m.submodules.row_maximum = row_maximum = RowMaximum(lanes=len(lanes))
        assert seed == stages.result + row_maximum.seed_delay
        for block, use, output in ((row_sum, command.sum, self.sums), (row_maximum, command.max, self.maxima)):
            m.d.comb += [
                block.enable.eq(advance), block.valid.eq(valids[stages.result] & (use != 0)), block.first.eq(here.first),
                block.last.eq(here.last), block.count.eq(here.count), output.eq(block.o),
            ]
        m.d.comb += [
            row_sum.flush.eq(self.flush),
            row_maximum.seed.eq(Mux(command.row1_use == RowUse.SEED, self._row1(), MINUS_INFINITY)),
        ]
        with m.If(row_sum.busy | row_maximum.busy):
            m.d.comb += self.busy.eq(1)
        for number, lane in enumerate(lanes):
            m.d.comb += [
                row_sum.values[number].eq(lane.term),
                row_maximum.values[number].eq(Cat(lane.y[:-1], lane.y[-1] & (command.max != 2))),
            ]
