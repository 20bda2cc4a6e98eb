"""The structured-sparsity matrix engine: commands in, rows of sums for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.hss_column import HssColumn
from hw.array.hss_former import BlockFormer
from hw.array.hss_fp4 import Fp4Quantizer
from hw.array.hss_frame import weave
from hw.array.hss_loader import HssLoader
from hw.array.hss_sequencer import HssSequencer
from hw.array.hss_shape import HssShape
from hw.array.hss_stream import HssStreamer
from hw.array.results import ResultPipeline
from hw.config import AcceleratorConfig
from hw.engines.hss import RESULT_LATENCY
from hw.memory.vfmu import VariableFetch
from hw.ports import engine_members
from hw.share import shared

__all__ = ["HssEngine"]


class HssEngine(wiring.Component):
    """C columns of R MACs with weights in hierarchical structured sparsity, which stay while tokens stream past them.

        commands ─▶ HssSequencer ─▶ HssLoader ─────────▶ HssStreamer ─▶ tags ─▶ ResultPipeline ─▶ accumulator
                                       │ slots of records    │ slices (VariableFetch)              ▲
                                       └──▶ C × HssColumn ◀──┴─ BlockFormer, Fp4Quantizer          │
                                                └──────────────────────────────────────────────────┘

    One token a cycle. A step of K takes R/8 groups of H1·H0 inputs of the mode: R of them are multiplied, so that time
    falls with density. Modes: 0 plain int8, i the config's i-th weight format (`hw.engines.hss.hss_mode`). Zeros of activations
    gate MACs and never change cycles; formulas stand in `hw.engines.hss`.

    Operands: row m of activations is K bytes at `activation_addr + m·activation_stride`, at any byte; `activation_tile_stride` is
    not used. Plain weights are slots of C bytes, one for each k. A record of packed weights is R/8·4 slots of coordinates and R
    of values (dense modes: of values), `weight_stride` apart.

    Other than in HighLight, activations come from rows in one piece, and the skips are one pipeline stage (structure of the
    paper: found; datapath: inferred).

    Errors are precise: raised when all earlier commands are done, so the oldest command that is not done is at fault.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.MATRIX))
    activation, weight : Out(ScratchpadReadPort)
    acc : Out(AccumulatorWritePort)
    active : Out(1)
        A token's results leave in this cycle.
    macs, macs_gated : Out(range(macs of all columns + 1))
        Its multiplications, and those that were gated, since an operand was zero.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.shape = HssShape.of(config)
        super().__init__(engine_members(config, self.shape.macs * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, shape = self.config, self.shape
        sequencer = HssSequencer(config)
        loader, streamer = HssLoader(config, shape), HssStreamer(config, shape)
        results = ResultPipeline(config, latency=RESULT_LATENCY, lead=VariableFetch.latency)
        columns = [HssColumn(shape) for _ in range(config.columns)]
        weave(m, self, sequencer, loader, streamer, results, [column.psum for column in columns])
        for index, column in enumerate(columns):
            m.submodules[f"column_{index}"] = shared(platform, f"hss_column_{shape.name}", column)
        self._write(m, loader, streamer, columns)
        self._tokens(m, streamer, columns)
        self._count(m, columns, streamer, results)
        return m

    def _write(self, m: Module, loader: HssLoader, streamer: HssStreamer, columns: list[HssColumn]) -> None:
        """Carry bytes of weights to the columns, and say when a tile takes over: in time for its first token, which is issued in
        the cycle after the tile was taken at the earliest."""
        shape = self.shape
        write = columns[0].write
        event = data.StructLayout({"taken": 1, "plain": 1, "rows": shape.rows})
        stage = Signal(event, name="take_0")
        m.d.comb += stage.taken.eq(streamer.i.valid & streamer.i.ready & ~self.unit.abort)
        m.d.comb += [stage.plain.eq(~streamer.i.p.coordinates),
                     *(stage.rows[row].eq(row < streamer.i.p.rows) for row in range(shape.rows))]
        for number in range(1, 4):
            held = Signal(event, name=f"take_{number}")
            m.d.sync += held.eq(stage)
            stage = held
        value, metadata = Signal(shape.rows), Signal(shape.metadata)
        late, rows = Signal(), Signal(shape.rows)
        m.d.sync += [value.eq(loader.value), metadata.eq(loader.coordinates), late.eq(stage.taken), rows.eq(stage.rows)]
        m.d.comb += [
            write.ahead.eq(loader.value), write.value.eq(value), write.metadata.eq(metadata),
            write.take_coordinates.eq(stage.taken), write.rows.eq(stage.rows), write.plain.eq(stage.plain),
            write.take_values.eq(late), write.rows_late.eq(rows),
        ]
        m.d.comb += [column.write.eq(write) for column in columns[1:]]
        m.d.comb += [column.lane.eq(lane) for column, lane in zip(columns, loader.lanes, strict=True)]

    def _tokens(self, m: Module, streamer: HssStreamer, columns: list[HssColumn]) -> None:
        """Carry slices to the columns: issued in cycle t, out of the fetch in t + 2, formed in t + 3."""
        shape = self.shape
        m.submodules.former = former = BlockFormer(groups=shape.groups, blocks=shape.blocks, lengths=shape.lengths)
        token = data.StructLayout({"valid": 1, "h0": streamer.h0.shape(), "sdq": 1})
        stage = Signal(token, name="token_0")
        m.d.comb += [stage.valid.eq(streamer.issue), stage.h0.eq(streamer.h0), stage.sdq.eq(streamer.sdq)]
        stages = [stage]
        for number in range(1, VariableFetch.latency + 2):
            held = Signal(token, name=f"token_{number}")
            m.d.sync += held.eq(stages[-1])
            stages.append(held)
        sliced, formed = stages[VariableFetch.latency], stages[-1]
        used = shape.blocks * shape.length
        for group in range(shape.groups):
            m.d.comb += former.i[group].eq(streamer.o[group].as_value()[:8 * used])
        m.d.comb += former.h0.eq(sliced.h0)
        for column in columns:
            m.d.comb += [column.valid.eq(formed.valid), column.sdq.eq(formed.sdq), column.activations.eq(former.o)]
        if shape.sdq:
            for group in range(shape.groups):
                codes, shift = Signal.like(columns[0].codes[group]), Signal.like(columns[0].shifts[group])
                quantizer = Fp4Quantizer(lanes=len(codes))
                m.submodules[f"quantizer_{group}"] = quantizer
                m.d.comb += quantizer.i.eq(streamer.o[group].as_value()[:len(quantizer.i.as_value())])
                m.d.sync += [codes.eq(quantizer.codes), shift.eq(quantizer.shift)]
                m.d.comb += [column.codes[group].eq(codes) for column in columns]
                m.d.comb += [column.shifts[group].eq(shift) for column in columns]

    def _count(self, m: Module, columns: list[HssColumn], streamer: HssStreamer, results: ResultPipeline) -> None:
        """Add the columns' counts; they are there a cycle before the sums, and so leave with these."""
        config, shape = self.config, self.shape
        total = Signal.like(self.macs, name="macs_held")
        m.d.sync += total.eq(sum((column.active for column in columns[1:]), columns[0].active))
        possible: Value = Const(config.columns * shape.rows)
        if shape.sdq:
            sdq = Signal(RESULT_LATENCY)
            m.d.sync += sdq.eq(Cat(streamer.sdq, sdq))
            possible = Mux(sdq[-1], config.columns * shape.macs, possible)
        with m.If(results.valid_out):
            m.d.comb += [self.macs.eq(total), self.macs_gated.eq(possible - total)]
