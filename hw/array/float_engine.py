"""The floating-point engine: columns of multipliers with adder trees, weight-stationary."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.commands import done_after_float_rows, stop_at, take_commands
from hw.array.float_column import FloatColumn
from hw.array.operand import OperandFetch
from hw.array.preload import PreloadSequencer
from hw.array.results import ResultPipeline
from hw.array.sequencer import TileSequencer
from hw.array.stream import StreamSequencer
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.elements import FloatFormat
from hw.ports import ErrorReport, engine_members
from hw.share import shared
from hw.timing import FLOAT_ACCUMULATOR_LATENCY

__all__ = ["FloatEngine"]


class FloatEngine(wiring.Component):
    """R×C multipliers of float16 or bfloat16, weights stationary: one slot of R activations a cycle makes C float32 sums.

        commands ─▶ TileSequencer ─▶ PreloadSequencer ─▶ StreamSequencer
                                        │ weights           │ activations
                                        └──▶ OperandFetch ◀─┘
                                                  └──▶ C × FloatColumn ──▶ rows + tags of ResultPipeline ─▶ accumulator

    Commands, operands and errors are those of the systolic engine with weights stationary. A row of the accumulator is added to
    again when its last addition is done, `FLOAT_ACCUMULATOR_LATENCY` cycles later; a slot that comes sooner waits. Cycle formulas
    stand in `hw.engines.floating`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.MATRIX))
    activation, weight : Out(ScratchpadReadPort)
    acc : Out(AccumulatorWritePort)
        Rows of float32 words.
    active : Out(1)
        A slot is issued in this cycle.
    macs, macs_gated : Out(range(R·C + 1))
        Its multiply-accumulates on valid lanes, and those on padding.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(engine_members(config, config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit = self.config, self.unit
        abort = ResetInserter(unit.abort)
        assert isinstance(config.activation, FloatFormat)
        columns = [FloatColumn(fmt=config.activation, rows=config.rows) for _ in range(config.columns)]
        fetch_activation = OperandFetch(config, request=SlotRequest.activation(config), element_width=config.activation.bits)
        fetch_weight = OperandFetch(config, request=SlotRequest.weight(config), element_width=config.weight.bits)
        results = ResultPipeline(config, latency=OperandFetch.latency + columns[0].latency, lead=OperandFetch.latency)
        tiles, preload, stream = (block(config) for block in (TileSequencer, PreloadSequencer, StreamSequencer))
        m.submodules.tiles = abort(tiles)
        m.submodules.preload = abort(preload)
        m.submodules.stream = abort(stream)
        m.submodules.results = abort(results)
        m.submodules.fetch_activation = fetch_activation
        m.submodules.fetch_weight = fetch_weight

        connect(m, tiles=tiles.o, preload=preload.i)
        connect(m, preload=preload.o, stream=stream.i)
        connect(m, fetch=fetch_activation.read, scratchpad=flipped(self.activation))
        connect(m, fetch=fetch_weight.read, scratchpad=flipped(self.weight))
        connect(m, stream=stream.activation, fetch=fetch_activation.request)
        connect(m, preload=preload.request, fetch=fetch_weight.request)
        self._columns(m, platform, preload, stream, columns, fetch_activation, fetch_weight)

        m.d.comb += [
            preload.drained.eq(results.drained & ~stream.loaded),
            stream.drained.eq(results.drained),
            results.valid.eq(stream.issue),
            results.tag.addr.eq(stream.result.addr.value),
            results.tag.accumulate.eq(stream.result.accumulate),
            results.tag.last.eq(stream.result.last),
            self.acc.valid.eq(results.valid_out),
            self.acc.addr.eq(results.tag_out.addr),
            self.acc.accumulate.eq(results.tag_out.accumulate),
            *(self.acc.data[c].eq(column.psum) for c, column in enumerate(columns)),
            self.active.eq(stream.issue),
            self.macs.eq(stream.macs),
            preload.halt.eq(unit.error),
            stream.halt.eq(unit.error | self._too_soon(m, stream)),
        ]
        with m.If(stream.issue):
            m.d.comb += self.macs_gated.eq(config.rows * config.columns - stream.macs)
        self._unit(m, tiles, preload, stream, results)
        return m

    def _columns(self, m: Module, platform: Any, preload: PreloadSequencer, stream: StreamSequencer, columns: list[FloatColumn],
                 fetch_activation: OperandFetch, fetch_weight: OperandFetch) -> None:
        """Delay what a slot does until its operands are there, and give both to the columns."""
        control = Cat(Mux(preload.load, ~preload.bank, stream.bank), preload.load, preload.row)
        for stage in range(OperandFetch.latency):
            held = Signal(len(control), name=f"slot_{stage}", reset_less=True)
            m.d.sync += held.eq(control)
            control = held
        for c, column in enumerate(columns):
            m.submodules[f"column_{c}"] = shared(platform, column.module_name, column)
            m.d.comb += [
                column.activation.as_value().eq(fetch_activation.lanes.as_value()), column.weight.eq(fetch_weight.lanes[c]),
                column.select.eq(control[0]), column.load.eq(control[1]), column.load_row.eq(control[2:]),
            ]

    def _too_soon(self, m: Module, stream: StreamSequencer) -> Value:
        """Return whether the next slot adds to a row whose last addition would not be done by then."""
        near = []
        valid: Value = stream.issue
        addr: Value = stream.result.addr.value
        for stage in range(FLOAT_ACCUMULATOR_LATENCY - 1):
            issued, row = Signal(name=f"issued_{stage}"), Signal(len(self.acc.addr), name=f"issued_row_{stage}", reset_less=True)
            m.d.sync += [issued.eq(valid), row.eq(addr)]
            near.append(issued & (row == stream.result.addr.value))
            valid, addr = issued, row
        return stream.result.accumulate & Cat(near).any()

    def _unit(self, m: Module, tiles: TileSequencer, preload: PreloadSequencer, stream: StreamSequencer,
              results: ResultPipeline) -> None:
        """Take commands, report them done when their rows can be read, stop at the first fault once everything older is done."""
        unit = self.unit
        take_commands(m, unit, tiles.i)
        adding = done_after_float_rows(m, unit, results.valid_out, results.tag_out.last)
        m.d.comb += unit.busy.eq(tiles.busy | preload.loaded | stream.loaded | ~results.empty | adding | unit.done)

        fault, report = Signal(), Signal(ErrorReport)
        with m.If(stream.loaded):
            m.d.comb += [fault.eq(stream.fault), report.eq(stream.report)]
        with m.Elif(preload.loaded):
            m.d.comb += [fault.eq(preload.fault), report.eq(preload.report)]
        with m.Else():
            m.d.comb += [fault.eq(tiles.fault), report.eq(tiles.report)]
        stop_at(m, unit, fault & results.empty & ~adding & ~unit.done, report)
