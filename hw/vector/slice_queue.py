"""Where a stream's slices wait, between a memory's port and the stage that takes them."""

from typing import Any

from amaranth import *
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SliceQueue"]


class SliceQueue(wiring.Component):
    """Slice queue: takes what a memory's port shows for one cycle, and lets a reader ask for no more than there is room for.

    What is asked for in cycle t is shown in t + 1 and offered from t + 2 on, out of a register. Three places let one through in
    every cycle, with no combinational path from the one that takes to the one that asks. Latency 1 cycle.

    Parameters
    ----------
    shape : ShapeLike
        Of a slice.

    Members
    -------
    ask : Out(1)
        There is room for one more.
    shown : In(1), p : In(shape)
        What was asked for is on the port.
    o : Out(stream of `shape`)
    """

    latency = 1
    depth = 3

    def __init__(self, *, shape: ShapeLike):
        self.shape = shape
        super().__init__({
            "ask": Out(1),
            "shown": In(1),
            "p": In(shape),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        places = [Signal(self.shape, name=f"place_{index}", reset_less=True) for index in range(self.depth)]
        filled = Signal(self.depth)                         # from place 0 on, the one that is offered
        kept = Signal(self.depth)                           # of those, after one has left
        taken = Signal()
        m.d.comb += [
            self.o.valid.eq(filled[0]),
            self.o.p.eq(places[0]),
            taken.eq(filled[0] & self.o.ready),
            kept.eq(Mux(taken, filled >> 1, filled)),
            self.ask.eq(~Mux(self.shown, filled[-2], filled[-1])),
        ]
        m.d.sync += filled.eq(Mux(self.shown, Cat(C(1, 1), kept), kept))
        for index, place in enumerate(places):
            behind = places[index + 1] if index + 1 < self.depth else self.p
            with m.If(~kept[index]):
                m.d.sync += place.eq(self.p)
            with m.Elif(taken):
                m.d.sync += place.eq(behind)
        return m
