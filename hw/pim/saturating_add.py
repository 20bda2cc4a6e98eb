"""Saturating integer adder, with the ports of the floating-point one."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SaturatingAdd"]


class SaturatingAdd(wiring.Component):
    """Sum of two two's complement words, clipped to their range. Latency 1 cycle with `enable` high, initiation interval 1.

    Parameters
    ----------
    width : int
        Bits of the words, at least 2.

    Members
    -------
    enable : In(1)
        0 holds the register.
    a, b : In(signed(width)), o : Out(signed(width))

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b` to `o`.
    """

    latency = 1

    def __init__(self, width: int):
        self._width = width
        super().__init__({"enable": In(1), "a": In(signed(width)), "b": In(signed(width)), "o": Out(signed(width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        total = Signal(signed(self._width + 1))
        result = Signal(signed(self._width), reset_less=True)
        m.d.comb += [total.eq(self.a + self.b), self.o.eq(result)]
        with m.If(self.enable):
            with m.If(total[-1] == total[-2]):
                m.d.sync += result.eq(total)
            with m.Else():      # beyond: the largest or the most negative word, by the sign of the sum
                m.d.sync += result.eq(Cat((~total[-1]).replicate(self._width - 1), total[-1]))
        return m
