"""The BitMoD engine: matrix commands in, rows of products for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.bitmod_array import BitmodArray
from hw.array.bitmod_float import ProductToFloat
from hw.array.bitmod_lines import LineBuffer
from hw.array.bitmod_steps import BitmodSteps, bitmod_tag_layout
from hw.array.bitmod_stream import WeightStream
from hw.array.bitmod_tiles import BitmodTiles
from hw.array.commands import done_after_float_rows, stop_at, take_commands
from hw.config import AcceleratorConfig
from hw.engines.bitmod import bitmod_modes
from hw.isa import ErrorCause
from hw.pe.bitmod.precision import LANES, PRECISIONS
from hw.pe.bitmod.shape import BitmodShape
from hw.ports import ErrorReport, engine_members
from hw.share import shared
from hw.timing import ACCUMULATOR_LATENCY, FLOAT_ACCUMULATOR_LATENCY

__all__ = ["BitmodEngine"]


class BitmodEngine(wiring.Component):
    """R×C BitMoD PEs behind the frame's ports: plain int8 weights and those of `config.weight_formats`.

    Activations are int8, float16 or bfloat16; of floats the products become float32 (`ProductToFloat`), which the accumulator
    adds, and NaN and infinities count as zero.

        commands ─▶ BitmodTiles ─┬▶ LineBuffer ◀─ rows of activations ─┐
                                 ├▶ WeightStream ◀─ pieces of weights ─┤ steps of four k ─▶ BitmodArray ─▶ rows ─▶ accumulator
                                 └▶ BitmodSteps ───────────────────────┘

    Output-stationary inside: a tile of up to R rows × C outputs goes over all of K, the products of each group go to the
    accumulator, which adds them and saturates. Those of int8 activations are in units of the weights, FP4 and FP3 in halves: the
    scales of the columns have the factor 0.5; float32 ones are what they are. Plain weights are added over as much of K as the
    longest group of any mode has (128 without one).

    Operands lie as for the systolic engine with weights stationary; packed weights as `WeightStream` says. Rows beyond M are
    computed and not written, columns beyond N are written as zero. Steps follow each other as
    `hw.engines.bitmod.bitmod_command_cycles` says, also from command to command; one alone takes `latency` cycles more from being
    taken to `done`, and R' each for the rows of its first tile, read before it, and of its last, written after it.

    Errors are precise: raised when all earlier commands are done, so the oldest command that is not done is at fault. Of several
    that one has, the first in order of tiles and of steps is reported: of a tile, accumulator rows; of a step, activations, then
    weights.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.MATRIX))
    activation, weight : Out(ScratchpadReadPort)
    acc : Out(AccumulatorWritePort)
    active : Out(1)
        A step is taken by the array in this cycle.
    macs, macs_gated : Out(range(4·R·C + 1))
        Its multiply-accumulates on valid rows, columns and k, and those on padding.

    Raises
    ------
    ConfigError
        If the config is none for this engine.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025. Differs: int8 activations and integer sums too, how operands lie and are buffered.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.modes = bitmod_modes(config)
        self.latency = 6 + BitmodArray.latency
        if config.float_activations:
            self.latency += ProductToFloat.latency + FLOAT_ACCUMULATOR_LATENCY - ACCUMULATOR_LATENCY
        self.shape = BitmodShape(activation=config.activation, precisions=tuple(sorted({info.precision for info in self.modes})),
                                 group=self.modes[0].group)
        super().__init__(engine_members(config, LANES * config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit, tag = self.config, self.unit, bitmod_tag_layout(self.config)
        abort = ResetInserter(unit.abort)
        sets = tuple(dict.fromkeys(info.specials for info in self.modes))
        tiles, steps, lines, weights = (block(config) for block in (BitmodTiles, BitmodSteps, LineBuffer, WeightStream))
        array = BitmodArray(self.shape, rows=config.rows, columns=config.columns, tag_width=tag.size, specials=sets)
        m.submodules.tiles = abort(tiles)
        m.submodules.steps = abort(steps)
        m.submodules.lines = abort(lines)
        m.submodules.weights = abort(weights)
        m.submodules.array = abort(array)
        connect(m, lines=lines.read, scratchpad=flipped(self.activation))
        connect(m, weights=weights.read, scratchpad=flipped(self.weight))
        self._share(m, tiles, [steps, lines, weights])

        step = array.i.p
        with m.Switch(steps.mode):
            for number, info in enumerate(self.modes):
                with m.Case(number):
                    m.d.comb += [step.precision.eq(PRECISIONS[info.precision]), step.special_set.eq(sets.index(info.specials))]
        taken = array.i.valid & array.i.ready
        closed = take_commands(m, unit, tiles.i)
        m.d.comb += [
            array.i.valid.eq(steps.loaded & ~steps.beyond & lines.valid & weights.valid & ~closed),
            steps.step.eq(taken), lines.step.eq(taken), weights.step.eq(taken), lines.halt.eq(closed), weights.halt.eq(closed),
            weights.mode.eq(steps.mode), weights.index.eq(steps.index), weights.group_last.eq(steps.group_last),
            step.codes.eq(weights.codes), step.scales.eq(weights.scales), step.specials.eq(weights.specials),
            step.group_last.eq(steps.group_last), step.last.eq(steps.last), step.tag.eq(steps.tag),
            *(step.activations[r][lane].eq(Mux(lane < steps.depth, lines.words[r][lane], 0))
              for r in range(config.rows) for lane in range(LANES)),
            self.active.eq(taken),
        ]
        with m.If(taken):
            m.d.comb += [self.macs.eq(steps.macs), self.macs_gated.eq(LANES * config.rows * config.columns - steps.macs)]

        results = data.View(tag, array.o.tag)
        if config.float_activations:
            pending = self._float_rows(m, platform, array, results)
        else:
            m.d.comb += [
                self.acc.valid.eq(array.o_valid & (array.o_row < results.rows)),
                self.acc.addr.eq(results.addr + array.o_row),
                self.acc.accumulate.eq(results.accumulate | ~array.o.fresh),
                *(self.acc.data[c].eq(Mux(c < results.columns, array.o.products[c], 0)) for c in range(config.columns)),
            ]
            ends = self.acc.valid & (array.o_row == results.rows - 1) & array.o.last & results.last
            m.d.sync += unit.done.eq(ends & ~unit.abort)
            pending = array.busy
        m.d.comb += unit.busy.eq(tiles.busy | steps.loaded | pending | unit.done)
        self._faults(m, tiles, steps, lines, weights, pending)
        return m

    def _float_rows(self, m: Module, platform: Any, array: BitmodArray, results: Any) -> Value:
        """Turn products into float32 rows, report commands done when they are written; return whether any is on its way.

        Rows of one place in the accumulator pass at a distance of R + 8 cycles, more than an addition takes.
        """
        row = data.StructLayout({"addr": len(self.acc.addr), "accumulate": 1, "columns": results.columns.shape(), "ends": 1})
        leaving = Signal(row, name="row")
        m.d.comb += [
            leaving.addr.eq(results.addr + array.o_row), leaving.accumulate.eq(results.accumulate | ~array.o.fresh),
            leaving.columns.eq(results.columns), leaving.ends.eq((array.o_row == results.rows - 1) & array.o.last & results.last),
        ]
        valid: Value = array.o_valid & (array.o_row < results.rows)
        converting = []
        for stage in range(ProductToFloat.latency):
            valid_held, held = Signal(name=f"row_valid_{stage}"), Signal(row, name=f"row_{stage}", reset_less=True)
            m.d.sync += [valid_held.eq(valid & ~self.unit.abort), held.eq(leaving)]
            valid, leaving = valid_held, held
            converting.append(valid_held)
        m.d.comb += [self.acc.valid.eq(valid), self.acc.addr.eq(leaving.addr), self.acc.accumulate.eq(leaving.accumulate)]
        for c in range(self.config.columns):
            to_float = ProductToFloat(self.shape)
            m.submodules[f"to_float_{c}"] = shared(platform, f"bitmod_to_float_{self.shape.suffix}", to_float)
            m.d.comb += [
                to_float.product.eq(array.o.products[c]), to_float.exponent.eq(array.o.exponents[c]),
                to_float.integer.eq(array.o.integer), self.acc.data[c].eq(Mux(c < leaving.columns, to_float.o, 0)),
            ]
        return array.busy | Cat(converting).any() | done_after_float_rows(m, self.unit, valid, leaving.ends)

    def _share(self, m: Module, tiles: BitmodTiles, takers: list[Any]) -> None:
        """Give each tile to all that need it, in whatever order they take it."""
        has = Signal(len(takers))
        takes = Signal(len(takers))
        for index, taker in enumerate(takers):
            m.d.comb += [taker.i.p.eq(tiles.o.p), taker.i.valid.eq(tiles.o.valid & ~has[index]),
                         takes[index].eq(taker.i.valid & taker.i.ready)]
        m.d.comb += tiles.o.ready.eq((has | takes).all())
        m.d.sync += has.eq(Mux(tiles.o.ready | self.unit.abort, 0, has | takes))

    def _faults(self, m: Module, tiles: BitmodTiles, steps: BitmodSteps, lines: LineBuffer, weights: WeightStream,
                pending: Value) -> None:
        """Report the first fault once everything before it is done."""
        fault, report = Signal(), Signal(ErrorReport)
        m.d.comb += report.cause.eq(ErrorCause.SCRATCHPAD_RANGE)
        with m.If(~steps.loaded):
            m.d.comb += [fault.eq(tiles.fault), report.eq(tiles.report)]
        with m.Elif(steps.beyond):
            m.d.comb += [fault.eq(1), report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), report.addr.eq(steps.acc_end)]
        with m.Elif(~lines.valid):
            m.d.comb += [fault.eq(lines.fault), report.addr.eq(lines.addr)]
        with m.Else():
            m.d.comb += [fault.eq(weights.fault & ~weights.valid), report.addr.eq(weights.addr)]
        stop_at(m, self.unit, fault & ~pending & ~self.unit.done, report)
