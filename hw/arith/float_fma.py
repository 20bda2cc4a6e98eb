"""Floating-point fused multiply-add."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.add_subtract import add_subtract
from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.multiply import multiplied, multiply_latency
from hw.arith.pipeline import registered
from hw.arith.rounding import StickyShift, at_most
from hw.elements import FloatFormat

__all__ = ["FloatFma"]

_BELOW = 3                  # bits below the product's last place: guard, round and sticky of the addend
_GAP = 2                    # bits between an addend that is far above the product, and the product


class FloatFma(wiring.Component):
    """Fused multiply-add: o = a · b + c, exact and then rounded once, to nearest, ties to even.

    With `subnormals`, o is the IEEE 754 fusedMultiplyAdd. Without, a subnormal operand counts as zero of its sign, and a result
    below the smallest normal value becomes zero of its sign. Terms that cancel give +0; a zero product and a zero addend of one
    sign keep it. NaN, Inf × 0 (also where c is NaN), and Inf − Inf give the one quiet NaN. Formats without infinities:
    `FloatRound`.

    Latency 7 cycles with `enable` high (multiply; align; add; magnitude; count zeros; shift; round), 8 with more than 17
    mantissa bits (multiply takes two); initiation interval 1; no reset. With p = mantissa_bits + 1: a multiplier of p×p bits;
    shifters, an adder, a negation and a leading-zero count of 3p + 6.

    Parameters
    ----------
    fmt : FloatFormat
        Of the operands and the result.
    subnormals : bool
        Gradual underflow, else flush to zero.
    saturate : bool
        What is too large becomes the largest finite value.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b, c : In(`float_layout(fmt)`)
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b`, `c` to `o`.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`).
    """

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False):
        check_format("FloatFma.fmt", fmt)
        self._fmt, self._subnormals, self._saturate = fmt, subnormals, saturate
        self.latency = 6 + multiply_latency(fmt.mantissa_bits + 1)
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "c": In(layout), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        precision = fmt.mantissa_bits + 1
        # The window, from the top: addend, gap, product, three bits. The product stands still and the addend is shifted down
        # from the top. An addend that belongs above the top stays there: the product below the gap then is less than a quarter
        # of its last place, and only whether it is zero, and its sign, matter. An addend below the product's last place has a
        # sticky bit; the product then has at least p bits, since one factor is normal, so that no more than one leading bit
        # cancels. Zero has an exponent, too, but no place: a product of zero counts as far below.
        width = precision + _GAP + 2 * precision + _BELOW

        def held(value: Value, name: str, stages: int = 1) -> Value:
            return registered(m, self.enable, value, name, stages)

        # Stage 1: multiply; how far the addend's place is below the top.
        a, b, c = (unpack(fmt, word, subnormals=self._subnormals) for word in (self.a, self.b, self.c))
        multiply = multiply_latency(precision)
        product = multiplied(m, self.enable, a.significand, b.significand, "product")
        addend = held(c.significand, "addend", multiply)
        reach = precision + _GAP + 1 - fmt.bias
        shift = Signal(Shape.cast(range(2 + reach - fmt.exponent_max, 2 * fmt.exponent_max + reach)))
        m.d.comb += shift.eq(a.exponent + b.exponent + reach - c.exponent)
        zero = a.zero | b.zero
        far = (shift < 0) | zero
        amount = held(Mux(far, 0, shift)[:len(shift) - 1], "amount", multiply)
        product_sign = a.sign ^ b.sign
        # The window's exponent: the addend's where it is far above, else the product's and the distance to the top.
        offset = max(0, -(2 + reach))
        window = Mux(far, c.exponent, a.exponent + b.exponent + reach)
        exponent = held((window + offset)[:(2 * fmt.exponent_max + reach + offset).bit_length()], "exponent", 3 + multiply)
        c_sign = held(c.sign, "c_sign", 2 + multiply)
        sign = held(product_sign, "product_sign", 2 + multiply)
        subtract = held(product_sign ^ c.sign, "subtract", 1 + multiply)
        inf = held(a.inf | b.inf | c.inf, "inf", 3 + multiply)
        inf_sign = held(Mux(c.inf, c.sign, product_sign), "inf_sign", 3 + multiply)
        nan = held(a.nan | b.nan | c.nan | ((a.inf | b.inf) & zero)
                   | ((a.inf | b.inf) & c.inf & (product_sign ^ c.sign)), "nan", 3 + multiply)

        # Stage 2: align.
        amount_width = width.bit_length()
        m.submodules.align = align = StickyShift(width=width, amount_width=amount_width)
        m.d.comb += [align.i.eq(Cat(C(0, width - precision), addend)), align.amount.eq(at_most(amount, width))]
        aligned = held(align.o, "aligned")
        product = held(product, "product_kept")

        # Stage 3: product ± addend; stage 4: magnitude and sign.
        total = Signal(signed(width + 2))
        m.d.comb += total.eq(add_subtract(Cat(C(0, _BELOW), product), aligned, subtract))
        total = held(total, "total")
        below_zero = total[-1]
        magnitude = held(Mux(below_zero, -total, total)[:width + 1], "magnitude")
        # With equal signs that sign; else the product's if the difference is positive, the addend's if negative, + if it is zero.
        negative = held(Mux(sign == c_sign, sign, total.any() & (sign ^ below_zero)), "negative")

        m.submodules.round = rounding = FloatRound(
            fmt=fmt, width=width + 1, exponent_width=len(exponent), subnormals=self._subnormals, saturate=self._saturate,
            lsb=-fmt.bias - fmt.mantissa_bits - (width - precision) - offset, split=True)
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(magnitude), rounding.exponent.eq(exponent),
            rounding.negative.eq(Mux(inf, inf_sign, negative)), rounding.inf.eq(inf), rounding.nan.eq(nan), self.o.eq(rounding.o),
        ]
        return m
