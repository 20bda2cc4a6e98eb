"""The array of the hybrid engine: a mesh of N×N PEs with two ways out, one for all columns and one for the clusters."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.hybrid_row import HybridRow, HybridSpec
from hw.array.skew import Deskew, Skew
from hw.config import ceil_log2
from hw.pe.hybrid import HYBRID_CONTROL
from hw.share import shared

__all__ = ["HybridMesh", "hybrid_slot_layout"]


def hybrid_slot_layout(size: int) -> data.StructLayout:
    """Return the control word of a slot: a PE's, the `load_row` that obeys `load`, and `capture` by one column."""
    index = ceil_log2(size)
    return data.StructLayout({**HYBRID_CONTROL.members, "load_row": index, "capture": 1, "capture_column": index})


class HybridMesh(wiring.Component):
    """N×N PEs; one slot a cycle, bubbles anywhere. A slot presented in cycle s is met by PE(r, c) in cycle s + r + c.

    Prefill is weight-stationary as in `hw.array.mesh`, weights a row of the tile in a slot from above (`load`), or a packed word,
    a column of the tile, from the left (`capture`): one word for N elements along K, as decode takes them. Decode: with
    `streamed`, column c < S adds up activations times word c of the slot.

    Parameters
    ----------
    spec : HybridSpec
        N, S and widths.

    Members
    -------
    activation : In(N × signed), weight : In(N × signed), words : In(S × N elements), control : In(hybrid_slot_layout)
        The slot. `capture` takes the last of the words.
    psum : Out(N × signed)
        Psums of all columns of the slot `latency` cycles ago.
    cluster_psum : Out(S × signed)
        Psums of the clusters of the slot `cluster_latency` cycles ago.

    Reference
    ---------
    HSA, arXiv 2507.09010. Inferred: clusters are columns, words enter from the left, two ways out.
    """

    def __init__(self, spec: HybridSpec):
        self.spec = spec
        self.latency = 2 * spec.size - 1
        self.cluster_latency = spec.size + spec.clusters - 1
        element = spec.element_width
        super().__init__({
            "activation": In(data.ArrayLayout(signed(spec.activation_width), spec.size)),
            "weight": In(data.ArrayLayout(signed(spec.weight_width), spec.size)),
            "words": In(data.ArrayLayout(data.ArrayLayout(element, spec.size), spec.clusters)),
            "control": In(hybrid_slot_layout(spec.size)),
            "psum": Out(data.ArrayLayout(signed(spec.psum_width), spec.size)),
            "cluster_psum": Out(data.ArrayLayout(signed(spec.psum_width), spec.clusters)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.skew_activation = activations = Skew(signed(spec.activation_width), spec.size)
        m.submodules.skew_weight = weights = Skew(signed(spec.weight_width), spec.size)
        m.submodules.skew_words = words = Skew(spec.clusters * spec.element_width, spec.size)
        m.submodules.skew_capture = captures = Skew(1, spec.size)
        m.submodules.deskew_psum = psums_out = Deskew(signed(spec.psum_width), spec.size)
        m.submodules.deskew_cluster = cluster_out = Deskew(signed(spec.psum_width), spec.clusters)
        m.d.comb += [activations.i.eq(self.activation), weights.i.eq(self.weight),
                     self.psum.eq(psums_out.o), self.cluster_psum.eq(cluster_out.o)]
        for r in range(spec.size):
            m.d.comb += [
                words.i[r].eq(Cat(self.words[lane][r] for lane in range(spec.clusters))),
                captures.i[r].eq(self.control.capture & (self.control.capture_column == r)),
            ]

        down: tuple[Value, Value, Value] = (weights.o.as_value(), captures.o.as_value(), Const(0, spec.size * spec.psum_width))
        control = self.control
        for r in range(spec.size):
            row = HybridRow(spec)
            m.submodules[f"row_{r}"] = shared(platform, row.module_name, row)
            m.d.comb += [
                row.activation.eq(activations.o[r]),
                row.words.eq(words.o[r]),
                row.control.select.eq(control.select),
                row.control.streamed.eq(control.streamed),
                row.control.load.eq(control.load & (control.load_row == r)),
                row.weight.eq(down[0]),
                row.capture.eq(down[1]),
                row.psum.eq(down[2]),
            ]
            down = (row.weight_out, row.capture_out, row.psum_out)
            if r + 1 < spec.size:
                below = Signal.like(self.control, name=f"control_{r + 1}", reset_less=True)
                m.d.sync += below.eq(control)
                control = below
        m.d.comb += [psums_out.i.eq(down[2]), cluster_out.i.eq(down[2][:spec.clusters * spec.psum_width])]
        return m
