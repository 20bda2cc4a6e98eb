"""Floating-point adder and subtractor."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.add_subtract import add_subtract
from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.arith.rounding import StickyShift
from hw.elements import FloatFormat

__all__ = ["FloatAdd"]

_GUARD = 3                  # bits below the last place: guard, round and sticky


class FloatAdd(wiring.Component):
    """Floating-point adder: o = a + b, or a − b, rounded once, to nearest, ties to even.

    With `subnormals`, o is the IEEE 754 sum. Without, a subnormal operand counts as zero of its sign, and a sum below the
    smallest normal value becomes zero of its sign. Terms that cancel give +0; two zeros of one sign keep it. NaN, and
    infinities of opposite sign, give the one quiet NaN. Formats without infinities: `FloatRound`.

    Latency 6 cycles with `enable` high (order by magnitude; align; add; count zeros; shift; round), initiation interval 1; no
    reset. An adder, two shifters and a leading-zero count of mantissa_bits + 4 or 5 bits.

    Parameters
    ----------
    fmt : FloatFormat
        Of the operands and the sum.
    subnormals : bool
        Gradual underflow, else flush to zero.
    saturate : bool
        What is too large becomes the largest finite value.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    subtract : In(1)
        o = a − b.
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b` to `o`.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`).
    """

    latency = 6

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False):
        check_format("FloatAdd.fmt", fmt)
        self._fmt, self._subnormals, self._saturate = fmt, subnormals, saturate
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "subtract": In(1), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        width = fmt.mantissa_bits + 1 + _GUARD

        def held(value: Value, name: str, stages: int = 1) -> Value:
            return registered(m, self.enable, value, name, stages)

        # Stage 1: the larger magnitude ahead. Exponents are subtracted both ways, beside the comparison.
        a, b = (unpack(fmt, word, subnormals=self._subnormals) for word in (self.a, self.b))
        b_sign = b.sign ^ self.subtract
        swap = Cat(self.b.mantissa, self.b.exponent) > Cat(self.a.mantissa, self.a.exponent)
        large = held(Mux(swap, b.significand, a.significand), "large")
        small = held(Mux(swap, a.significand, b.significand), "small")
        exponent = held(Mux(swap, b.exponent, a.exponent), "exponent", 3)
        difference = held(Mux(swap, b.exponent - a.exponent, a.exponent - b.exponent)[:fmt.exponent_bits], "difference")
        subtract = held(a.sign ^ b_sign, "subtract", 2)
        sign = held(Mux(swap, b_sign, a.sign), "sign", 2)
        inf = held(a.inf | b.inf, "inf", 3)
        nan = held(a.nan | b.nan | (a.inf & b.inf & (a.sign ^ b_sign)), "nan", 3)

        # Stage 2: align.
        m.submodules.align = align = StickyShift(width=width, amount_width=fmt.exponent_bits)
        m.d.comb += [align.i.eq(Cat(C(0, _GUARD), small)), align.amount.eq(difference)]
        aligned = held(align.o, "aligned")
        large = held(large, "large_kept")

        # Stage 3: add. Only terms whose exponents differ by at most one cancel more than one bit, and those lost nothing when
        # they were aligned: no sticky bit moves up.
        total = Signal(width + 1)
        m.d.comb += total.eq(add_subtract(Cat(C(0, _GUARD), large), aligned, subtract))
        negative = held(sign & (total.any() | ~subtract), "negative")

        m.submodules.round = rounding = FloatRound(
            fmt=fmt, width=width + 1, exponent_width=fmt.exponent_bits, lsb=-fmt.bias - fmt.mantissa_bits - _GUARD,
            subnormals=self._subnormals, saturate=self._saturate, split=True)
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(held(total, "total")), rounding.exponent.eq(exponent),
            rounding.negative.eq(negative), rounding.inf.eq(inf), rounding.nan.eq(nan), self.o.eq(rounding.o),
        ]
        return m
