"""PE of the hybrid array: one multiplier, whose weight is stationary, or comes with the slot in the columns that are clusters."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["HYBRID_CONTROL", "HybridPE"]

HYBRID_CONTROL = data.StructLayout({"select": 1, "load": 1, "streamed": 1})
"""The control word of a slot, which travels to the right with its activation.

`select`: which of the two stationary weights multiplies. `load`: the other one takes the weight from above. `streamed`: in a
cluster, the element of this slot's word multiplies instead.
"""


class HybridPE(wiring.Component):
    """Two's complement multiply-accumulate; one product a cycle, latency 1, slots as in `hw.pe.base`.

    psum_out = psum + activation · weight. Stationary weights come from above, plain ones, a row of a tile in a slot; or from the
    left, elements of a packed word, a column of a tile in a slot: the PE takes the one that passes when `capture` is high. Words
    for S clusters come side by side; a cluster uses the lowest of its lanes and passes the others on, and from the last cluster
    on the one lane that is left passes all columns. So S words a slot feed the clusters, and the last of them the mesh.

    In a streamed slot the last cluster keeps its activation for itself, so that nothing moves in the columns to its right.

    Parameters
    ----------
    activation_width, weight_width, element_width, psum_width : int
        Bits of an activation, a plain weight, an element of a packed word and a psum, two's complement.
    lanes : int
        Lanes of words that enter, at least 1.
    cluster : bool
        Can multiply by the element of its lowest lane.

    Members
    -------
    activation, control, words : In
        From the left.
    weight, capture, psum : In
        From above.
    activation_out, control_out, words_out, weight_out, capture_out, psum_out : Out
        One cycle later.

    Raises
    ------
    ConfigError
        If there is no lane, or a psum does not hold a product.

    Reference
    ---------
    HSA, arXiv 2507.09010: one array for both phases. Inferred: this PE.
    """

    def __init__(self, *, activation_width: int, weight_width: int, element_width: int, psum_width: int, lanes: int,
                 cluster: bool):
        if lanes < 1:
            raise ConfigError(f"HybridPE.lanes must be at least 1, not {lanes!r}")
        if psum_width < activation_width + weight_width:
            raise ConfigError(f"HybridPE.psum_width must be at least {activation_width + weight_width} (a product), "
                              f"not {psum_width!r}")
        self.activation_width, self.weight_width = activation_width, weight_width
        self.element_width, self.psum_width = element_width, psum_width
        self.lanes, self.cluster = lanes, cluster
        self.passed_lanes = max(1, lanes - 1) if cluster else lanes
        ports = {"activation": signed(activation_width), "control": HYBRID_CONTROL, "weight": signed(weight_width), "capture": 1,
                 "psum": signed(psum_width)}
        super().__init__({
            **{name: In(shape) for name, shape in ports.items()},
            **{f"{name}_out": Out(shape) for name, shape in ports.items()},
            "words": In(lanes * element_width),
            "words_out": Out(self.passed_lanes * element_width),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        kind = "cluster" if self.cluster else "plain"
        return (f"pe_hybrid_{kind}_a{self.activation_width}_w{self.weight_width}_e{self.element_width}_p{self.psum_width}"
                f"_l{self.lanes}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control, bits = self.control, self.element_width
        element = self.words[:bits]
        passing = self.words[-bits:]                    # the lane that goes through all columns

        stationary = [Signal(signed(self.weight_width), name=f"stationary_{i}", reset_less=True) for i in range(2)]
        for index, register in enumerate(stationary):
            with m.If(control.select != index):
                with m.If(self.capture):
                    m.d.sync += register.eq(passing.as_signed())
                with m.Elif(control.load):
                    m.d.sync += register.eq(self.weight)
        weight = Signal(signed(self.weight_width))
        m.d.comb += weight.eq(Mux(control.select, stationary[1], stationary[0]))
        if self.cluster:
            with m.If(control.streamed):
                m.d.comb += weight.eq(element.as_signed())

        # Without reset, as in `hw.pe.base`: garbage runs ahead of the first slot, and is never put to use.
        held = {name: Signal.like(Value.cast(getattr(self, name)), name=f"{name}_held", reset_less=True)
                for name in ("activation", "control", "weight", "capture")}
        words_held = Signal(self.passed_lanes * bits, reset_less=True)
        psum_held = Signal(signed(self.psum_width), reset_less=True)
        keeps = self.cluster and self.lanes == 1
        for name, register in held.items():
            with m.If(~control.streamed if keeps and name == "activation" else 1):
                m.d.sync += register.eq(getattr(self, name))
            m.d.comb += getattr(self, f"{name}_out").eq(register)
        m.d.sync += [words_held.eq(self.words[-len(words_held):]), psum_held.eq(self.psum + self.activation * weight)]
        m.d.comb += [self.words_out.eq(words_held), self.psum_out.eq(psum_held)]
        return m
