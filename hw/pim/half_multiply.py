"""Float16 multiplier without registers."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, quiet_nan, unpack
from hw.elements import FP16
from hw.pim.half_add import rounded

__all__ = ["HalfMultiply"]

_INFINITY = 0x7C00
_NAN = quiet_nan(FP16).as_bits()
_BELOW = 24                 # a product is a multiple of 2^−48


class HalfMultiply(wiring.Component):
    """Product of two float16 words, rounded to nearest, ties to even; subnormal words count. Combinational.

    Members
    -------
    a, b : In(16), o : Out(16)
    """

    def __init__(self) -> None:
        super().__init__({"a": In(16), "b": In(16), "o": Out(16)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = (unpack(FP16, float_layout(FP16)(word), subnormals=True) for word in (self.a, self.b))
        exponent, magnitude = Signal(6), Signal(22 + 58)
        m.d.comb += [exponent.eq(a.exponent + b.exponent - 2), magnitude.eq((a.significand * b.significand) << exponent)]
        finite = rounded(m, magnitude, _BELOW)
        negative = a.sign ^ b.sign
        with m.If(a.nan | b.nan | (a.inf & b.zero) | (b.inf & a.zero)):
            m.d.comb += self.o.eq(_NAN)
        with m.Elif(a.inf | b.inf):
            m.d.comb += self.o.eq(_INFINITY | (negative << 15))
        with m.Else():
            m.d.comb += self.o.eq(Cat(finite, negative))
        return m
