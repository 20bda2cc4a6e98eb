"""The systolic matrix engine: commands in, result rows for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.commands import stop_at, take_commands
from hw.array.drain import DrainSequencer
from hw.array.guarded_mesh import GuardedMesh
from hw.array.mesh import Mesh, mesh_control_layout
from hw.array.meshes import mesh_of
from hw.array.operand import OperandFetch
from hw.array.preload import PreloadSequencer
from hw.array.results import ResultPipeline
from hw.array.sequencer import TileSequencer
from hw.array.stream import StreamSequencer
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.pe import PESpec
from hw.ports import ErrorReport, engine_members

__all__ = ["SystolicEngine"]


class SystolicEngine(wiring.Component):
    """R×C mesh, weight- and output-stationary by command; one slot a cycle, no bubble between tiles or commands.

        commands ─▶ TileSequencer ─▶ PreloadSequencer ─▶ StreamSequencer ─▶ DrainSequencer (OS)
                                        │ weights           │ operands          │ shifts
                                        └──▶ OperandFetch ◀─┘                   │
                                                  └──▶ Mesh ◀──── control ◀─────┘
                                                         └──▶ rows + tags of ResultPipeline ─▶ accumulator

    All that a slot does is decided in the cycle in which it is issued; operands, control and tags then travel in step, so
    that bubbles do no harm. Cycle formulas stand in `hw.engines` (`matrix_command_cycles`, `matrix_command_latency`).

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
        A slot of a tile is issued in this cycle.
    macs, macs_gated : Out(range(R·C + 1))
        Its multiply-accumulates on valid lanes, and those on padding.

    Raises
    ------
    ConfigError
        If the config's PE is not registered, or cannot be built with its formats.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.pe = PESpec.of(config)
        super().__init__(engine_members(config, config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        abort = ResetInserter(self.unit.abort)
        mesh = mesh_of(config.protection_of("engine.mesh"), spec=self.pe, rows=config.rows, columns=config.columns)
        fetch_activation = OperandFetch(config, request=SlotRequest.activation(config), element_width=config.activation.bits)
        fetch_weight = OperandFetch(config, request=SlotRequest.weight(config), element_width=config.weight.bits)
        results = ResultPipeline(config, latency=OperandFetch.latency + mesh.latency, lead=OperandFetch.latency)
        tiles, preload, stream, drain = (block(config) for block in (
            TileSequencer, PreloadSequencer, StreamSequencer, DrainSequencer))
        m.submodules.tiles = abort(tiles)
        m.submodules.preload = abort(preload)
        m.submodules.stream = abort(stream)
        m.submodules.drain = abort(drain)
        m.submodules.results = abort(results)
        m.submodules.fetch_activation = fetch_activation
        m.submodules.fetch_weight = fetch_weight
        m.submodules.mesh = mesh

        connect(m, tiles=tiles.o, preload=preload.i)
        connect(m, preload=preload.o, stream=stream.i)
        self._operands(m, preload, stream, fetch_activation, fetch_weight)
        self._control(m, preload, stream, drain, mesh)

        drained = results.drained & (drain.left == 0)
        m.d.comb += [
            mesh.activation.eq(fetch_activation.lanes),
            mesh.weight.eq(fetch_weight.lanes),
            preload.drained.eq(drained & ~stream.loaded),
            stream.drained.eq(drained),
            stream.drain_left.eq(drain.left),
            drain.start.eq(stream.issue & stream.os & stream.last),
            drain.result.eq(stream.result),
            results.valid.eq(drain.valid | (stream.issue & ~stream.os)),
            results.tag.eq(drain.tag),
        ]
        if isinstance(mesh, GuardedMesh):
            m.d.comb += mesh.valid.eq(results.valid_out)
        with m.If(stream.issue & ~stream.os):
            m.d.comb += [
                results.tag.addr.eq(stream.result.addr.value),
                results.tag.accumulate.eq(stream.result.accumulate),
                results.tag.last.eq(stream.result.last),
            ]
        m.d.comb += [
            self.acc.valid.eq(results.valid_out),
            self.acc.addr.eq(results.tag_out.addr),
            self.acc.accumulate.eq(results.tag_out.accumulate),
            self.acc.data.eq(mesh.psum),
            self.active.eq(stream.issue),
            self.macs.eq(stream.macs),
        ]
        with m.If(stream.issue):
            m.d.comb += self.macs_gated.eq(config.rows * config.columns - stream.macs)

        self._unit(m, tiles, preload, stream, drain, results)
        return m

    def _operands(self, m: Module, preload: PreloadSequencer, stream: StreamSequencer, fetch_activation: OperandFetch,
                  fetch_weight: OperandFetch) -> None:
        """Give the weight port to the stream sequencer while it holds an OS tile, for which preload waits."""
        connect(m, fetch=fetch_activation.read, scratchpad=flipped(self.activation))
        connect(m, fetch=fetch_weight.read, scratchpad=flipped(self.weight))
        connect(m, stream=stream.activation, fetch=fetch_activation.request)
        with m.If(stream.os):
            m.d.comb += _request(stream.weight, fetch_weight.request)
        with m.Else():
            m.d.comb += _request(preload.request, fetch_weight.request)

    def _control(self, m: Module, preload: PreloadSequencer, stream: StreamSequencer, drain: DrainSequencer, mesh: Mesh) -> None:
        """Assemble the control word of the slot issued in this cycle; it reaches the mesh together with its operands."""
        layout = mesh_control_layout(self.config.rows, self.config.dataflows)
        slot = Signal(layout)
        if "ws" in self.config.dataflows:
            m.d.comb += [
                # While the next tile loads its register, any slot that streams is of this tile and uses the other one.
                slot.select.eq(Mux(preload.load, ~preload.bank, stream.bank)),
                slot.load.eq(preload.load),
                slot.load_row.eq(preload.row),
            ]
        if "os" in self.config.dataflows:
            m.d.comb += [
                slot.accumulate.eq(stream.issue & stream.os),
                slot.first.eq(slot.accumulate & stream.first),
                slot.last.eq(slot.accumulate & stream.last),
                slot.shift.eq(drain.shift),
            ]
        for stage in range(OperandFetch.latency):
            held = Signal(layout, name=f"slot_{stage}", reset_less=True)
            m.d.sync += held.eq(slot)
            slot = held
        m.d.comb += mesh.control.eq(slot)

    def _unit(self, m: Module, tiles: TileSequencer, preload: PreloadSequencer, stream: StreamSequencer, drain: DrainSequencer,
              results: ResultPipeline) -> None:
        """Take commands, report them done, stop at the first fault once everything older is done."""
        unit = self.unit
        take_commands(m, unit, tiles.i)
        m.d.comb += [
            preload.halt.eq(unit.error),
            stream.halt.eq(unit.error),
            unit.busy.eq(tiles.busy | preload.loaded | stream.loaded | (drain.left != 0) | ~results.empty | unit.done),
        ]
        m.d.sync += unit.done.eq(results.valid_out & results.tag_out.last & ~unit.abort)

        fault = Signal()
        report = Signal(ErrorReport)
        with m.If(drain.left != 0):
            m.d.comb += [fault.eq(drain.fault), report.eq(drain.report)]
        with m.Elif(stream.loaded):
            m.d.comb += [fault.eq(stream.fault), report.eq(stream.report)]
        with m.Elif(preload.loaded):
            m.d.comb += [fault.eq(preload.fault), report.eq(preload.report)]
        with m.Else():
            m.d.comb += [fault.eq(tiles.fault), report.eq(tiles.report)]
        stop_at(m, unit, fault & results.empty, report)


def _request(source: Any, sink: Any) -> list:
    """Return the assignments that connect two slot requests."""
    return [sink.line.eq(source.line), sink.offset.eq(source.offset), sink.count.eq(source.count), sink.valid.eq(source.valid),
            source.ready.eq(sink.ready)]
