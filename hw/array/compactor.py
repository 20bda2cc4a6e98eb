"""Packs the values of a vector that are kept: the others close up."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["Compactor"]


class Compactor(wiring.Component):
    """Moves kept values down over those that are not, in their order: a prefix sum of the gaps, then log₂ n layers of shifts.

    A vector a cycle, `latency` cycles later; layer j moves a value by 2^j where bit j of the gaps below it is set. What lies
    beyond the kept ones means nothing.

    Source: the zero eliminator of Wang et al., SpAtten, HPCA 2021.

    Parameters
    ----------
    lanes : int
        A power of two.

    Members
    -------
    en : In(1), i : In(lanes × signed(8)), keep : In(lanes)
        Taken with `en`.
    o : Out(lanes × signed(8))
        Of the vector taken last.
    """

    latency = 1

    def __init__(self, *, lanes: int):
        if lanes < 2 or lanes & lanes - 1:
            raise ConfigError(f"Compactor.lanes must be a power of two, at least 2, not {lanes!r}")
        self.lanes = lanes
        layout = data.ArrayLayout(signed(8), lanes)
        super().__init__({"en": In(1), "i": In(layout), "keep": In(lanes), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layers = ceil_log2(self.lanes)
        moving: list[tuple[Value, Value]] = []              # value, gaps below it (0 where it is not kept)
        gaps: Value = Const(0, layers)
        for lane in range(self.lanes):
            value = Signal(signed(8), name=f"value_{lane}", reset_less=True)
            below = Signal(layers, name=f"gaps_{lane}", reset_less=True)
            with m.If(self.en):
                m.d.sync += [value.eq(self.i[lane]), below.eq(Mux(self.keep[lane], gaps, 0))]
            gaps = (gaps + ~self.keep[lane])[:layers]
            moving.append((value, below))
        for layer in range(layers):
            moved = []
            for lane in range(self.lanes):
                value = Signal(signed(8), name=f"value_{lane}_{layer}")
                below = Signal(layers, name=f"gaps_{lane}_{layer}")
                m.d.comb += value.eq(moving[lane][0])
                with m.If(~moving[lane][1][layer]):         # what leaves stays behind as a value that is not kept
                    m.d.comb += below.eq(moving[lane][1])
                source = lane + (1 << layer)
                if source < self.lanes:
                    with m.If(moving[source][1][layer]):
                        m.d.comb += [value.eq(moving[source][0]), below.eq(moving[source][1])]
                moved.append((value, below))
            moving = moved
        m.d.comb += [self.o[lane].eq(value) for lane, (value, _) in enumerate(moving)]
        return m
