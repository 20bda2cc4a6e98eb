"""One row of the hybrid array: S clusters, then plain PEs, emitted once however many rows there are."""

from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.engines.hybrid import ELEMENT_BITS, mesh_psum_width
from hw.pe.hybrid import HYBRID_CONTROL, HybridPE
from hw.share import shared

__all__ = ["HybridRow", "HybridSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HybridSpec:
    """What decides the array: N, S, and bits of activations, plain weights, elements and psums."""

    size: int
    clusters: int
    activation_width: int = 8
    weight_width: int = 8
    element_width: int = ELEMENT_BITS
    psum_width: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "HybridSpec":
        """Return the array that `config` asks for."""
        return cls(size=config.rows, clusters=config.hybrid_clusters, activation_width=config.activation.bits,
                   weight_width=config.weight.bits, psum_width=mesh_psum_width(config))


class HybridRow(wiring.Component):
    """N PEs; activation, control and words pass to the right, weights, captures and psums go down, a cycle for each PE.

    Latency 1 from above to below; a slot whose activation enters in cycle s is met by PE c in cycle s + c.

    Parameters
    ----------
    spec : HybridSpec

    Members
    -------
    activation : In(signed), control : In(HYBRID_CONTROL), words : In(S elements)
        Into PE 0.
    weight, capture, psum : In; weight_out, capture_out, psum_out : Out
        Plain words, PE 0 in the lowest bits, as in `hw.array.row`.
    """

    def __init__(self, spec: HybridSpec):
        self.spec = spec
        widths = {"weight": spec.size * spec.weight_width, "capture": spec.size, "psum": spec.size * spec.psum_width}
        super().__init__({
            "activation": In(signed(spec.activation_width)),
            "control": In(HYBRID_CONTROL),
            "words": In(spec.clusters * spec.element_width),
            **{name: In(width) for name, width in widths.items()},
            **{f"{name}_out": Out(width) for name, width in widths.items()},
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the row."""
        spec = self.spec
        return (f"hybrid_row_{spec.size}_{spec.clusters}_a{spec.activation_width}_w{spec.weight_width}_e{spec.element_width}"
                f"_p{spec.psum_width}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        layouts = {"weight": data.ArrayLayout(signed(spec.weight_width), spec.size), "capture": data.ArrayLayout(1, spec.size),
                   "psum": data.ArrayLayout(signed(spec.psum_width), spec.size)}
        activation, control, words = self.activation, self.control, self.words
        for c in range(spec.size):
            pe = HybridPE(activation_width=spec.activation_width, weight_width=spec.weight_width,
                          element_width=spec.element_width, psum_width=spec.psum_width, lanes=max(1, spec.clusters - c),
                          cluster=c < spec.clusters)
            m.submodules[f"pe_{c}"] = shared(platform, pe.module_name, pe)
            m.d.comb += [pe.activation.eq(activation), pe.control.eq(control), pe.words.eq(words)]
            for name, layout in layouts.items():
                m.d.comb += [getattr(pe, name).eq(data.View(layout, getattr(self, name))[c]),
                             data.View(layout, getattr(self, f"{name}_out"))[c].eq(getattr(pe, f"{name}_out"))]
            activation, control, words = pe.activation_out, pe.control_out, pe.words_out
        return m
