"""Leading-zero count."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_power_of_two
from hw.errors import ConfigError

__all__ = ["LeadingZeroCount"]


class LeadingZeroCount(wiring.Component):
    """Leading-zero count: how many zeros stand above the most significant one.

    A tree: each node joins the counts of two halves with one multiplexer, so the depth is log₂(width). Combinational.

    Parameters
    ----------
    width : int
        Bits of the input, at least 1.

    Members
    -------
    i : In(width)
    o : Out(range(width + 1))
        0 to `width`; `width` when `i` is zero.

    Raises
    ------
    ConfigError
        If `width` is not positive.
    """

    def __init__(self, *, width: int):
        if width < 1:
            raise ConfigError(f"LeadingZeroCount.width must be at least 1, not {width!r}")
        self._width = width
        super().__init__({"i": In(width), "o": Out(range(width + 1))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # Ones below the input end the count at `width`. A node over 2**k bits holds 0 … 2**k: its top bit says "all zero".
        padding = ceil_power_of_two(self._width) - self._width
        padded = Cat(C((1 << padding) - 1, padding), self.i)
        nodes: list[Value] = [~bit for bit in padded]
        level = 0
        while len(nodes) > 1:
            level += 1
            joined: list[Value] = []
            for index in range(0, len(nodes), 2):
                low, high = nodes[index], nodes[index + 1]
                count = Signal(level + 1, name=f"zeros_{1 << level}_{index // 2}")
                m.d.comb += count.eq(Mux(high[-1], Cat(low[:-1], ~low[-1], low[-1]), high))
                joined.append(count)
            nodes = joined
        m.d.comb += self.o.eq(nodes[0])
        return m
