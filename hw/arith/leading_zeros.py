"""Leading-zero count."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["LeadingZeroCount"]


class LeadingZeroCount(wiring.Component):
    """Leading-zero count: how many zeros stand above the most significant one.

    A binary search: each level looks whether the upper half of what is left is zero, and goes on with the half that holds the
    answer. It is as small as the count can be made, and all in words, which simulates fast. Combinational.

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
        # A one below the input ends the count at `width`, so that the search always finds one.
        levels = ceil_log2(self._width + 1)
        left: Value = Cat(C(1 << ((1 << levels) - self._width - 1), (1 << levels) - self._width), self.i)
        count: list[Value] = []
        for level in reversed(range(levels)):
            half = 1 << level
            empty = Signal(name=f"upper_{half}_empty")
            rest = Signal(half, name=f"left_{half}")
            m.d.comb += [
                empty.eq(~left[half:].any()),
                rest.eq(Mux(empty, left[:half], left[half:])),
            ]
            count.insert(0, empty)
            left = rest
        m.d.comb += self.o.eq(Cat(count))
        return m
