"""The column foot of the hybrid array: sums of a block's passes, the block's scale, rows for the accumulator."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.array.hybrid_scale import BlockScale
from hw.array.hybrid_tile import hybrid_tag_layout, largest_passes
from hw.config import AcceleratorConfig
from hw.engines.hybrid import FOOT_LATENCY, block_sum_width, cluster_slots, mesh_psum_width
from hw.ports import AccumulatorWritePort
from hw.share import shared

__all__ = ["HybridFoot"]


class HybridFoot(wiring.Component):
    """Scales are applied here, once to the sum of a block in each column, never to an element.

    A row of psums comes from the mesh, or S of them from the clusters, never both in a cycle. Where a block takes P passes,
    psums of the first P − 1 are kept for each token, or slot of a tile on the clusters, and added to those of the next. The
    sum of a block is scaled (`BlockScale`); plain psums go as they are. What the clusters make is gathered to rows of N, so that
    the accumulator gets the same rows in the same order, whichever mode made them.

    Latency `latency` from psums to the row, from the clusters to the row of the tile's last slot; initiation interval 1. Psums of
    the same token may come again after 2 cycles.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    mesh_valid : In(1), mesh_tag : In(hybrid_tag_layout), mesh_psum : In(N × signed)
    cluster_valid : In(1), cluster_tag : In(hybrid_tag_layout), cluster_psum : In(S × signed)
    scales : In(N × 8)
        Of the block whose psums are in the second stage now.
    scales_done : Out(1)
        That was the last that needs them.
    acc : Out(AccumulatorWritePort), last : Out(1)
        A row, and whether it is its command's last.
    busy : Out(1)
        Psums or a row are inside.

    Reference
    ---------
    HSA, arXiv 2507.09010: dequantization off the critical path. Inferred: aligner, guard bits, rounding half-up.
    """

    latency = FOOT_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        tag, psum = hybrid_tag_layout(config), signed(mesh_psum_width(config))
        super().__init__({
            "mesh_valid": In(1),
            "mesh_tag": In(tag),
            "mesh_psum": In(data.ArrayLayout(psum, config.columns)),
            "cluster_valid": In(1),
            "cluster_tag": In(tag),
            "cluster_psum": In(data.ArrayLayout(psum, config.hybrid_clusters)),
            "scales": In(data.ArrayLayout(8, config.columns)),
            "scales_done": Out(1),
            "acc": Out(AccumulatorWritePort(config)),
            "last": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        tag_layout = hybrid_tag_layout(config)
        psum_layout = data.ArrayLayout(signed(mesh_psum_width(config)), config.columns)

        # First stage: whose turn it is.
        tag = Signal(tag_layout)
        from_clusters = self.cluster_valid
        m.d.comb += tag.eq(Mux(from_clusters, self.cluster_tag, self.mesh_tag))
        valid, clusters = Signal(), Signal()
        held_tag = Signal(tag_layout, reset_less=True)
        psums = data.View(psum_layout, Signal(psum_layout.size, name="psums", reset_less=True))
        m.d.sync += [valid.eq(self.mesh_valid | self.cluster_valid), clusters.eq(from_clusters), held_tag.eq(tag)]
        for lane in range(config.columns):
            psum = self.mesh_psum[lane]
            if lane < config.hybrid_clusters:
                psum = Mux(from_clusters, self.cluster_psum[lane], psum)
            m.d.sync += psums[lane].eq(psum)

        # Second stage: add what earlier passes have kept.
        sums = self._sum_passes(m, tag, valid, held_tag, psums)
        whole = Signal()
        m.d.comb += [whole.eq(valid & held_tag.last_pass), self.scales_done.eq(valid & held_tag.block_end)]

        # Third stage: scale. The clusters' channels of this slot are scaled in the first columns.
        whole_clusters, scaled_clusters = Signal(), Signal()
        whole_valid, scaled_valid = Signal(), Signal()
        whole_tag, scaled_tag = (Signal(tag_layout, name=name, reset_less=True) for name in ("whole_tag", "scaled_tag"))
        m.d.sync += [whole_valid.eq(whole), whole_clusters.eq(clusters), whole_tag.eq(held_tag),
                     scaled_valid.eq(whole_valid), scaled_clusters.eq(whole_clusters), scaled_tag.eq(whole_tag)]
        scaled = []
        slots = cluster_slots(config)
        for lane in range(config.columns):
            block = BlockScale(config)
            m.submodules[f"scale_{lane}"] = shared(platform, block.module_name, block)
            scale: Value = self.scales[lane]
            if lane < config.hybrid_clusters:
                own = Array(self.scales[slot * config.hybrid_clusters + lane] for slot in range(slots))
                scale = Mux(clusters, own[held_tag.index[:max(1, (slots - 1).bit_length())]], scale)
            m.d.comb += [block.sum.eq(sums[lane]), block.plain.eq(psums[lane]), block.scale.eq(scale),
                         block.of_block.eq(held_tag.packed), block.shifts.eq(held_tag.shifts)]
            scaled.append(block.o)

        # Fourth stage: rows. A lane is written by the mesh, or in its slot by its cluster.
        row = data.View(self.acc.data.shape(), Signal(self.acc.data.shape().size, name="row", reset_less=True))
        row_valid, row_last, row_accumulate = Signal(), Signal(), Signal(reset_less=True)
        row_addr = Signal(len(self.acc.addr), reset_less=True)
        slot = scaled_tag.index[:max(1, (slots - 1).bit_length())]
        for lane in range(config.columns):
            with m.If(scaled_valid & (~scaled_clusters | (slot == lane // config.hybrid_clusters))):
                m.d.sync += row[lane].eq(
                    Mux(scaled_clusters, scaled[lane % config.hybrid_clusters], scaled[lane]))
        ends = scaled_valid & (~scaled_clusters | (slot == slots - 1))
        m.d.sync += [row_valid.eq(ends), row_last.eq(ends & scaled_tag.last), row_accumulate.eq(scaled_tag.accumulate),
                     row_addr.eq(scaled_tag.addr)]
        m.d.comb += [
            self.acc.valid.eq(row_valid), self.acc.addr.eq(row_addr), self.acc.accumulate.eq(row_accumulate),
            self.acc.data.eq(row), self.last.eq(row_last),
            self.busy.eq(valid | whole_valid | scaled_valid | row_valid),
        ]
        return m

    def _sum_passes(self, m: Module, tag: Any, valid: Value, held_tag: Any, psums: Any) -> list[Value]:
        """Return the sums of this pass and those before it; keep them for the next."""
        config = self.config
        width = block_sum_width(config)
        if largest_passes(config) == 1:
            return [psums[lane] for lane in range(config.columns)]
        layout = data.ArrayLayout(signed(width), config.columns)
        m.submodules.kept = kept = Memory(shape=unsigned(layout.size), depth=1 << len(tag.index), init=[])
        write = kept.write_port()
        read = kept.read_port(transparent_for=(write,))
        before = data.View(layout, read.data)
        after = data.View(layout, Signal(layout.size, name="block_sums"))
        for lane in range(config.columns):
            m.d.comb += after[lane].eq(psums[lane] + Mux(held_tag.first_pass, 0, before[lane]))
        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(tag.index),
            write.addr.eq(held_tag.index),
            write.data.eq(after.as_value()),
            write.en.eq(valid & held_tag.packed & ~held_tag.last_pass),
        ]
        return [after[lane] for lane in range(config.columns)]
