"""Issues the slots of a tile of the hybrid array: a token of the mesh, or words for the clusters, in each."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.hybrid_tile import hybrid_tag_layout, hybrid_tile_layout
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.engines.hybrid import cluster_slots
from hw.isa import ErrorCause
from hw.ports import ErrorReport

__all__ = ["HybridStream"]


class HybridStream(wiring.Component):
    """Holds one tile and issues its slots, each in the cycle in which its activation is granted and its words are there.

    On the mesh a slot for each token. On the clusters N/S slots, whose activation is fetched with the first and stays. The first
    slot is issued in the cycle after the tile was taken at the earliest, and the next tile is taken with the last.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of hybrid_tile_layout)
    activation : Out(SlotRequest)
    words_valid : In(1), take : Out(1)
        Words for all clusters are there; they are taken.
    drained : In(1)
        What the mesh still gives leaves it before what the clusters are given now.
    halt : In(1)
        Request nothing.
    issue : Out(1), streamed : Out(1), bank : Out(1), tag : Out(hybrid_tag_layout)
        The slot of this cycle, whether it is one of the clusters, the stationary register that it uses, and its tag.
    macs : Out(range(N² + 1))
        Its useful multiply-accumulates.
    loaded : Out(1), clusters : Out(1)
        Holds a tile; one of the clusters.
    reader_fault : In(1), reader_report : In(ErrorReport)
        Words that do not come.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slot needs what is not there.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(hybrid_tile_layout(config))),
            "activation": Out(SlotRequest.activation(config)),
            "words_valid": In(1),
            "take": Out(1),
            "drained": In(1),
            "halt": In(1),
            "issue": Out(1),
            "streamed": Out(1),
            "bank": Out(1),
            "tag": Out(hybrid_tag_layout(config)),
            "macs": Out(range(config.rows * config.columns + 1)),
            "loaded": Out(1),
            "clusters": Out(1),
            "reader_fault": In(1),
            "reader_report": In(ErrorReport),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, slots = self.config, cluster_slots(self.config)
        tile = Signal(hybrid_tile_layout(config))
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.activation_slot_bytes)
        steps_left = Signal.like(tile.steps)
        acc_addr = Signal.like(tile.acc_addr)
        first, last = Signal(), Signal()
        fetched = Signal()                              # the activation has been granted, while the slot waits for its words
        needed, complete, beyond_acc, starved = Signal(), Signal(), Signal(), Signal()
        columns_left = Signal(range(config.columns + 1))
        mesh_macs = Signal(range(config.rows * config.columns + 1))

        m.d.comb += [
            self.clusters.eq(self.loaded & tile.clusters),
            last.eq(steps_left == 1),
            # Rows of nothing but padding are zeros, wherever the activations would lie.
            needed.eq((tile.rows != 0) & (first | ~tile.clusters)),
            beyond_acc.eq(tile.last_pass & (acc_addr.overflow | (acc_addr.value >= config.accumulator_rows))),
            starved.eq(tile.clusters & ~self.words_valid & self.reader_fault),
            self.fault.eq(self.loaded & (beyond_acc | (needed & cursor.beyond) | starved)),
            self.activation.line.eq(cursor.line),
            self.activation.offset.eq(cursor.offset),
            self.activation.count.eq(tile.rows),
        ]
        # Padding is fetched as well, from the first line, with no valid lane.
        with m.If(tile.rows == 0):
            m.d.comb += [self.activation.line.eq(0), self.activation.offset.eq(0)]
        wanted = Signal()
        m.d.comb += [
            wanted.eq(first | ~tile.clusters),
            self.activation.valid.eq(self.loaded & wanted & ~fetched & ~self.fault & ~self.halt),
            complete.eq(fetched | ~wanted | (self.activation.valid & self.activation.ready)),
            self.issue.eq(self.loaded & complete & ~self.fault & ~self.halt
                          & (~tile.clusters | (self.words_valid & self.drained))),
            self.streamed.eq(self.issue & tile.clusters),
            self.take.eq(self.streamed),
            self.bank.eq(tile.bank),
            cursor.base.eq(self.i.p.activation_addr),
            cursor.stride.eq(tile.activation_stride),
            cursor.step.eq(self.issue & ~tile.clusters),
            cursor.restart.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += fetched.eq(~self.issue & (fetched | (self.activation.valid & self.activation.ready)))

        m.d.comb += [
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
            self.report.addr.eq(cursor.addr),
        ]
        with m.If(~(needed & cursor.beyond)):
            with m.If(starved):
                m.d.comb += self.report.eq(self.reader_report)
            with m.Else():
                m.d.comb += [self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), self.report.addr.eq(acc_addr)]

        index = Signal.like(self.tag.index)
        used = Signal(range(config.hybrid_clusters + 1))
        m.d.comb += [
            self.tag.packed.eq(tile.packed),
            self.tag.shifts.eq(tile.shifts),
            self.tag.first_pass.eq(tile.first_pass),
            self.tag.last_pass.eq(tile.last_pass),
            self.tag.block_end.eq(tile.block_end & last),
            self.tag.accumulate.eq(tile.accumulate),
            self.tag.last.eq(tile.last & last),
            self.tag.addr.eq(acc_addr.value),
            self.tag.index.eq(index),
            used.eq(Mux(columns_left < config.hybrid_clusters, columns_left, config.hybrid_clusters)),
        ]
        with m.If(self.issue):
            m.d.comb += self.macs.eq(Mux(tile.clusters, tile.rows * used, mesh_macs))
            m.d.sync += [steps_left.eq(steps_left - 1), index.eq(index + 1), first.eq(0), columns_left.eq(columns_left - used)]
            with m.If(~tile.clusters):
                m.d.sync += [acc_addr.value.eq(acc_addr.value + 1),
                             acc_addr.overflow.eq(acc_addr.overflow | acc_addr.value.all())]
        m.d.comb += self.i.ready.eq(~self.loaded | (self.issue & last))
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                tile.eq(self.i.p),
                acc_addr.eq(self.i.p.acc_addr),
                steps_left.eq(Mux(self.i.p.clusters, slots, self.i.p.steps)),
                columns_left.eq(self.i.p.columns),
                mesh_macs.eq(self.i.p.rows * self.i.p.columns),
                index.eq(0),
                first.eq(1),
            ]
        return m
