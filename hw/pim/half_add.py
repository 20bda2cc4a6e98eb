"""Float16 adder without registers, and the rounding that it shares with the multiplier."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, quiet_nan, unpack
from hw.elements import FP16

__all__ = ["HalfAdd", "rounded"]

_MANTISSA = FP16.mantissa_bits
_INFINITY = 0x7C00
_NAN = quiet_nan(FP16).as_bits()


class HalfAdd(wiring.Component):
    """Sum of two float16 words, rounded to nearest, ties to even; subnormal words count. Combinational.

    Every word is a multiple of 2^−24 below 2^16, so the sum is one of integers, exact, and rounded once.

    Members
    -------
    a, b : In(16), o : Out(16)
    """

    def __init__(self) -> None:
        super().__init__({"a": In(16), "b": In(16), "o": Out(16)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        parts, terms = [], []
        for name, word in (("a", self.a), ("b", self.b)):
            part = unpack(FP16, float_layout(FP16)(word), subnormals=True)
            magnitude, term = Signal(40, name=f"magnitude_{name}"), Signal(signed(41), name=f"term_{name}")
            m.d.comb += [magnitude.eq(part.significand << (part.exponent - 1)[:5]),
                         term.eq(Mux(part.sign, -magnitude, magnitude))]
            parts.append(part)
            terms.append(term)
        first, second = parts
        total, size = Signal(signed(42)), Signal(41)
        m.d.comb += [total.eq(terms[0] + terms[1]), size.eq(Mux(total < 0, -total, total))]
        negative = Mux(total == 0, first.sign & second.sign, total < 0)
        opposite = first.inf & second.inf & (first.sign ^ second.sign)
        finite = rounded(m, size, 0)
        with m.If(first.nan | second.nan | opposite):
            m.d.comb += self.o.eq(_NAN)
        with m.Elif(first.inf | second.inf):
            m.d.comb += self.o.eq(_INFINITY | (Mux(first.inf, first.sign, second.sign) << 15))
        with m.Else():
            m.d.comb += self.o.eq(Cat(finite, negative))
        return m


def rounded(m: Module, magnitude: Value, below: int) -> Value:
    """Return the float16 word, without its sign, of a magnitude in units of 2^(−24 − below), rounded to nearest, ties to even."""
    # What is left of the lowest bit that the word keeps: at least those below 2^−24, else all but 11 from the leading one on.
    most = len(magnitude) - 1 - _MANTISSA
    drop = Signal(range(max(most, below) + 1))
    m.d.comb += drop.eq(below)
    for place in range(below + _MANTISSA + 1, len(magnitude)):
        with m.If(magnitude[place]):
            m.d.comb += drop.eq(place - _MANTISSA)
    kept, code = Signal(_MANTISSA + 1), Signal(17)
    shifted = Signal(len(magnitude) + 1)                        # with the bit below the lowest that is kept as bit 0
    m.d.comb += [shifted.eq((magnitude << 1) >> drop), kept.eq(shifted[1:])]
    sticky = (magnitude & ((1 << drop) - 1)[:len(magnitude)] & ~((1 << drop) >> 1)) != 0
    up = shifted[0] & (sticky | kept[0])
    m.d.comb += code.eq(((drop - below) << _MANTISSA) + kept + up)
    return Mux(code >= _INFINITY, C(_INFINITY, 15), code[:15])
