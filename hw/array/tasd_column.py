"""A column of the engine that cuts activations: R multipliers, each choosing its weight, and the tree that adds them."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.adder_tree import added, selected
from hw.array.tasd_shape import TasdShape

__all__ = ["TasdColumn"]


class TasdColumn(wiring.Component):
    """One output's multipliers: of every M weights N meet the activations that were kept, chosen by their places.

        weights ─▶ M:1 by place ─▶ weight ─▶ × activation ─▶ product ─▶ adder tree ─▶ psum
                   └────── cycle t ─────┘       t + 1          t + 2                   t + 3

    Latency 3, initiation interval 1. Places increase within a block, so lane q of N chooses among weights q … M − 1; where a
    block has fewer values than N, its last lanes are without. A MAC with an operand of zero is gated: its registers hold, and its
    product is zero. Weights are double-buffered: a byte a cycle goes to the column on `lane`, and what was loaded takes over at
    once; plain weights, R of them, go to the first N of every M.

    Parameters
    ----------
    shape : TasdShape

    Members
    -------
    lane : In(8), value : In(weights)
        A byte, and in the cycle after it which weight it is, one bit each.
    take : In(1), plain : In(1), rows : In(R)
        What was loaded takes over; it is plain weights, of which these count.
    activations : In(R × signed(8)), places : In(R × place)
        What was kept of a token, and where in its block it was.
    valid : In(1)
        There is a token.
    psum : Out(signed(psum_width))
    active : Out(range(R + 1))
        MACs of the token of two cycles ago that were not gated.
    """

    latency = 3

    def __init__(self, shape: TasdShape):
        self.shape = shape
        super().__init__({
            "lane": In(8),
            "value": In(shape.rows),
            "take": In(1),
            "plain": In(1),
            "rows": In(shape.lanes),
            "activations": In(shape.activations),
            "places": In(shape.places),
            "valid": In(1),
            "psum": Out(signed(shape.psum_width)),
            "active": Out(range(shape.lanes + 1)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        weights = self._weights(m)
        products, counts = [], []
        for lane in range(shape.lanes):
            block, slot = divmod(lane, shape.keep)
            reach = range(slot, shape.of)
            weight = Signal(8, name=f"weight_{lane}")
            m.d.comb += weight.eq(selected({place: weights[block * shape.of + place] for place in reach}, self.places[lane]))
            held, operand = (Signal(signed(8), name=f"{name}_{lane}", reset_less=True) for name in ("held", "operand"))
            product, live = Signal(signed(16), name=f"product_{lane}", reset_less=True), Signal(name=f"live_{lane}")
            wanted = self.valid & weight.any() & self.activations[lane].any()
            m.d.sync += [live.eq(wanted), product.eq(Mux(live, held * operand, 0))]
            with m.If(wanted):
                m.d.sync += [held.eq(weight), operand.eq(self.activations[lane])]
            products.append(product)
            counts.append(live)
        m.d.sync += [self.psum.eq(added(products)), self.active.eq(added(counts))]
        return m

    def _weights(self, m: Module) -> list[Signal]:
        """Make both buffers; return the weights in use."""
        shape = self.shape
        lane = Signal(8, name="lane_held", reset_less=True)
        m.d.sync += lane.eq(self.lane)
        loaded = [Signal(8, name=f"loaded_{row}", reset_less=True) for row in range(shape.rows)]
        weights = [Signal(8, name=f"used_{row}", reset_less=True) for row in range(shape.rows)]
        for row in range(shape.rows):
            with m.If(self.value[row]):
                m.d.sync += loaded[row].eq(lane)
            block, place = divmod(row, shape.of)
            plain: Value = Const(0, 8)
            if place < shape.keep:
                source = block * shape.keep + place
                plain = Mux(self.rows[source], loaded[source], 0)
            with m.If(self.take):
                m.d.sync += weights[row].eq(Mux(self.plain, plain, loaded[row]))
        return weights
