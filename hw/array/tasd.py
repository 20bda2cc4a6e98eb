"""The engine that cuts activations to an N:M pattern at run time: commands in, rows of sums for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.hss_frame import weave
from hw.array.hss_loader import HssLoader
from hw.array.hss_sequencer import HssSequencer
from hw.array.hss_stream import HssStreamer
from hw.array.results import ResultPipeline
from hw.array.tasd_column import TasdColumn
from hw.array.tasd_cut import ActivationCut
from hw.array.tasd_shape import TasdShape
from hw.config import AcceleratorConfig
from hw.engines.hss import hss_result_latency
from hw.memory.vfmu import VariableFetch
from hw.ports import engine_members
from hw.share import shared

__all__ = ["TasdEngine"]


class TasdEngine(wiring.Component):
    """C columns of R MACs whose weights stay while tokens stream past them, of each N of every M activations (TASD-A).

        commands ─▶ HssSequencer ─▶ HssLoader ───── N cycles later ────▶ C × TasdColumn ─▶ accumulator
                                       └▶ HssStreamer ─▶ ActivationCut ──┘

    One token a cycle. In mode 1, whose weights are packed int8, a step of K is R·M/N inputs, of which R are multiplied, so a
    command takes N/M of the dense time; what a block has more than N values is dropped. Mode 0 is plain and exact, R inputs a
    step. Formulas stand in `hw.engines.hss`; operands are those of `HssEngine`, of packed weights a slot for each input.

    Errors are precise: raised when all earlier commands are done, so the oldest command that is not done is at fault.

    Source: Jeong et al., TASD, MLSys 2025: units that extract terms of activations in front of a structured core (found); this
    datapath is inferred. A series of several terms would need the same weights for another pass: there is one term.

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
        self.shape = TasdShape.of_config(config)
        super().__init__(engine_members(config, config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, shape = self.config, self.shape
        sequencer = HssSequencer(config)
        loader, streamer = HssLoader(config, shape), HssStreamer(config, shape)
        results = ResultPipeline(config, latency=hss_result_latency(config), lead=VariableFetch.latency)
        cut = ActivationCut(shape)
        m.submodules.cut = ResetInserter(self.unit.abort)(cut)
        columns = [TasdColumn(shape) for _ in range(config.columns)]
        weave(m, self, sequencer, loader, streamer, results, [column.psum for column in columns])
        for index, column in enumerate(columns):
            m.submodules[f"column_{index}"] = shared(platform, f"tasd_column_{shape.name}", column)
        self._write(m, loader, streamer, columns)

        # A token is issued in cycle t, out of the fetch in t + 2, cut in t + 4 + N.
        token = data.StructLayout({"valid": 1, "cut": 1})
        issued = Signal(token)
        m.d.comb += [issued.valid.eq(streamer.issue), issued.cut.eq(streamer.cut)]
        fetched = _delayed(m, "token", issued, VariableFetch.latency)
        m.d.comb += [cut.valid.eq(fetched.valid), cut.cut.eq(fetched.cut), cut.i.eq(streamer.o[0])]
        there = _delayed(m, "cut", fetched, shape.latency)
        for column in columns:
            m.d.comb += [column.valid.eq(there.valid), column.activations.eq(cut.activations), column.places.eq(cut.places)]

        total = Signal.like(self.macs, name="macs_held")
        m.d.sync += total.eq(sum((column.active for column in columns[1:]), columns[0].active))
        with m.If(results.valid_out):
            m.d.comb += [self.macs.eq(total), self.macs_gated.eq(config.columns * config.rows - total)]
        return m

    def _write(self, m: Module, loader: HssLoader, streamer: HssStreamer, columns: list[TasdColumn]) -> None:
        """Carry bytes of weights to the columns, as late as tokens come, and say when a tile takes over: its last byte is there
        just then, and the next tile's first one is not."""
        shape = self.shape
        event = data.StructLayout({"taken": 1, "plain": 1, "rows": shape.lanes})
        taken = Signal(event)
        m.d.comb += [taken.taken.eq(streamer.i.valid & streamer.i.ready & ~self.unit.abort), taken.plain.eq(~streamer.i.p.cut),
                     *(taken.rows[row].eq(row < streamer.i.p.rows) for row in range(shape.lanes))]
        late = _delayed(m, "take", taken, shape.keep + 4)
        lanes = _delayed(m, "lanes", loader.lanes, shape.keep)
        value = _delayed(m, "value", loader.value, shape.keep + 1)
        for number, column in enumerate(columns):
            m.d.comb += [column.lane.eq(lanes[number]), column.value.eq(value), column.take.eq(late.taken),
                         column.plain.eq(late.plain), column.rows.eq(late.rows)]


def _delayed(m: Module, name: str, value: Any, cycles: int) -> Any:
    """Return `value` so many cycles later."""
    for number in range(cycles):
        held = Signal.like(value, name=f"{name}_{number}")
        m.d.sync += held.eq(value)
        value = held
    return value
