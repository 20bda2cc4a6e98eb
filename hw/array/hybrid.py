"""The hybrid matrix engine: one array that is a mesh for many tokens and matrix-vector clusters for one."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.commands import stop_at, take_commands
from hw.array.hybrid_foot import HybridFoot
from hw.array.hybrid_mesh import HybridMesh, hybrid_slot_layout
from hw.array.hybrid_preload import HybridPreload
from hw.array.hybrid_row import HybridSpec
from hw.array.hybrid_sequencer import HybridSequencer
from hw.array.hybrid_stream import HybridStream
from hw.array.hybrid_tile import hybrid_tag_layout
from hw.array.hybrid_weights import WeightReader
from hw.array.operand import OperandFetch
from hw.array.results import ResultPipeline
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.engines.hybrid import STREAM_BEATS
from hw.memory.deep_fifo import DeepFIFO
from hw.ports import ErrorReport, engine_members

__all__ = ["HybridEngine"]


class HybridEngine(wiring.Component):
    """N×N mesh for int8 × int8, and for packed 4-bit weights in blocks with one scale; S of its columns are clusters.

        commands ─▶ HybridSequencer ─▶ HybridPreload ─▶ HybridStream
                        │ jobs             │ plain weights     │ activations, slots
                        ▼                  │ words             │ words
        stream ─▶ FIFO ─▶ WeightReader ────┴───────────────────┤
                        │ scales                               ▼
                        └────────────▶ HybridFoot ◀─────── HybridMesh
                                            └─▶ accumulator

    A command with packed weights and one token runs on the clusters, unless its mode says otherwise (`hw.engines.hybrid`); the
    accumulator gets the same rows in the same order either way. Slots, tags and errors are as in `hw.array.systolic`. A slot of
    the clusters waits until what the mesh still gives leaves before it: N − S cycles after the last slot of the mesh.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit, activation, weight, acc, active, macs, macs_gated
        As `hw.ports.engine_members` says, `macs` up to N².
    weight_stream : In(stream of 8·beat_bytes)
        Packed weights from the load unit, for commands of a mode with `MODE_STREAM`.
    blocks_rounded, blocks_flushed, blocks_padded : Out(0 to columns)
        How much the counters of these names grow (`hw.regs.ENGINE_COUNTERS`).

    Raises
    ------
    ConfigError
        If `hw.engines.hybrid` refuses the config.

    Reference
    ---------
    HSA, arXiv 2507.09010, of which only the abstract was available: everything inside is inferred.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            **engine_members(config, config.rows * config.columns),
            **{name: Out(range(config.columns + 1)) for name in config.engine_counters},
            "weight_stream": In(stream.Signature(8 * config.beat_bytes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        abort = ResetInserter(self.unit.abort)
        mesh = HybridMesh(HybridSpec.of(config))
        foot = HybridFoot(config)
        tag = hybrid_tag_layout(config)
        fifo = DeepFIFO(shape=8 * config.beat_bytes, depth=STREAM_BEATS, protection=config.protection_of("fifos"))
        fetch_activation = OperandFetch(config, request=SlotRequest.activation(config), element_width=config.activation.bits)
        fetch_weight = OperandFetch(config, request=SlotRequest.weight(config), element_width=config.weight.bits)
        cluster_latency = OperandFetch.latency + mesh.cluster_latency
        mesh_results = ResultPipeline(config, latency=OperandFetch.latency + mesh.latency, lead=cluster_latency, tag=tag)
        cluster_results = ResultPipeline(config, latency=cluster_latency, lead=OperandFetch.latency, tag=tag)
        tiles, preload, issuer, reader = (block(config) for block in (
            HybridSequencer, HybridPreload, HybridStream, WeightReader))
        m.submodules.tiles = abort(tiles)
        m.submodules.preload = abort(preload)
        m.submodules.stream = abort(issuer)
        m.submodules.reader = abort(reader)
        m.submodules.fifo = abort(fifo)
        m.submodules.mesh_results = abort(mesh_results)
        m.submodules.cluster_results = abort(cluster_results)
        m.submodules.foot = abort(foot)
        m.submodules.fetch_activation = fetch_activation
        m.submodules.fetch_weight = fetch_weight
        m.submodules.mesh = mesh

        connect(m, tiles=tiles.o, preload=preload.i)
        connect(m, tiles=tiles.job, reader=reader.job)
        connect(m, preload=preload.o, stream=issuer.i)
        connect(m, preload=preload.request, fetch=fetch_weight.request)
        connect(m, stream=issuer.activation, fetch=fetch_activation.request)
        connect(m, fetch=fetch_activation.read, scratchpad=flipped(self.activation))
        connect(m, load=flipped(self.weight_stream), fifo=fifo.i)
        connect(m, fifo=fifo.o, reader=reader.beats)
        self._weight_port(m, fetch_weight, reader)
        self._control(m, preload, issuer, reader, mesh)

        m.d.comb += [
            mesh.activation.eq(fetch_activation.lanes),
            mesh.weight.eq(fetch_weight.lanes),
            preload.clusters_streaming.eq(issuer.clusters),
            issuer.drained.eq(mesh_results.drained),
            mesh_results.valid.eq(issuer.issue & ~issuer.streamed),
            mesh_results.tag.eq(issuer.tag),
            cluster_results.valid.eq(issuer.streamed),
            cluster_results.tag.eq(issuer.tag),
            foot.mesh_valid.eq(mesh_results.valid_out),
            foot.mesh_tag.eq(mesh_results.tag_out),
            foot.mesh_psum.eq(mesh.psum),
            foot.cluster_valid.eq(cluster_results.valid_out),
            foot.cluster_tag.eq(cluster_results.tag_out),
            foot.cluster_psum.eq(mesh.cluster_psum),
            foot.scales.eq(reader.scales),
            reader.scales_done.eq(foot.scales_done),
            self.active.eq(issuer.issue),
            self.macs.eq(issuer.macs),
            self.blocks_rounded.eq(reader.blocks_rounded),
            self.blocks_flushed.eq(reader.blocks_flushed),
            self.blocks_padded.eq(tiles.blocks_padded),
        ]
        connect(m, foot=foot.acc, accumulator=flipped(self.acc))
        with m.If(issuer.issue):
            m.d.comb += self.macs_gated.eq(config.rows * config.columns - issuer.macs)
        empty = mesh_results.empty & cluster_results.empty & ~foot.busy
        self._unit(m, tiles, preload, issuer, empty, foot.acc.valid & foot.last)
        return m

    def _weight_port(self, m: Module, fetch: OperandFetch, reader: WeightReader) -> None:
        """Let the reader, which has room for few beats, go first."""
        m.d.comb += [
            self.weight.valid.eq(reader.read.valid | fetch.read.valid),
            self.weight.addr.eq(Mux(reader.read.valid, reader.read.addr, fetch.read.addr)),
            reader.read.ready.eq(self.weight.ready),
            fetch.read.ready.eq(self.weight.ready & ~reader.read.valid),
            reader.read.data.eq(self.weight.data),
            fetch.read.data.eq(self.weight.data),
        ]

    def _control(self, m: Module, preload: HybridPreload, issuer: HybridStream, reader: WeightReader, mesh: HybridMesh) -> None:
        """Assemble the slot issued in this cycle; control and words reach the mesh together with operands from the scratchpad."""
        m.d.comb += [
            preload.words_valid.eq(reader.valid),
            issuer.words_valid.eq(reader.valid),
            reader.one.eq(preload.capture),
            reader.take.eq(preload.capture | issuer.take),
        ]
        for block in (preload, issuer):
            m.d.comb += [block.reader_fault.eq(reader.fault), block.reader_report.eq(reader.report)]
        layout = hybrid_slot_layout(self.config.rows)
        slot = Signal(layout)
        words: Value = reader.words.as_value()
        m.d.comb += [
            # While the next tile loads its register, any slot that streams is of this tile and uses the other one.
            slot.select.eq(Mux(preload.load | preload.capture, ~preload.bank, issuer.bank)),
            slot.load.eq(preload.load),
            slot.load_row.eq(preload.index),
            slot.capture.eq(preload.capture),
            slot.capture_column.eq(preload.index),
            slot.streamed.eq(issuer.streamed),
        ]
        for stage in range(OperandFetch.latency):
            held = Signal(layout, name=f"slot_{stage}", reset_less=True)
            held_words = Signal(len(words), name=f"words_{stage}", reset_less=True)
            m.d.sync += [held.eq(slot), held_words.eq(words)]
            slot, words = held, held_words
        m.d.comb += [mesh.control.eq(slot), mesh.words.eq(words)]

    def _unit(self, m: Module, tiles: HybridSequencer, preload: HybridPreload, issuer: HybridStream, empty: Value,
              done: Value) -> None:
        """Take commands, report them done, stop at the first fault once everything older is done."""
        unit = self.unit
        take_commands(m, unit, tiles.i)
        m.d.comb += [
            preload.halt.eq(unit.error),
            issuer.halt.eq(unit.error),
            unit.busy.eq(tiles.busy | preload.loaded | issuer.loaded | ~empty | unit.done),
        ]
        m.d.sync += unit.done.eq(done & ~unit.abort)

        fault = Signal()
        report = Signal(ErrorReport)
        with m.If(issuer.loaded):
            m.d.comb += [fault.eq(issuer.fault), report.eq(issuer.report)]
        with m.Elif(preload.loaded):
            m.d.comb += [fault.eq(preload.fault), report.eq(preload.report)]
        with m.Else():
            m.d.comb += [fault.eq(tiles.fault), report.eq(tiles.report)]
        stop_at(m, unit, fault & empty, report)
