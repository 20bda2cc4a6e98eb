"""Floating-point multiplier."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, is_inf, is_nan, is_zero, quiet_nan
from hw.arith.rounding import round_increment
from hw.elements import FloatFormat

__all__ = ["FloatMultiplier"]


class FloatMultiplier(wiring.Component):
    """Floating-point multiplier, rounded to nearest, ties to even, without subnormal values.

    A subnormal operand counts as zero of its sign. The product is rounded as if the exponent had no bounds; if it is then below
    the smallest normal value it becomes zero of its sign, if above the largest an infinity. NaN × anything and Inf × 0 (or × a
    subnormal) give the one quiet NaN, positive and without payload. In all other cases o is the IEEE 754 product.
    Latency 2 cycles with `enable` high, initiation interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        Of the operands and the product.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b` to `o`.
    """

    latency = 2

    def __init__(self, *, fmt: FloatFormat):
        self._fmt = fmt
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, a, b = self._fmt, self.a, self.b
        significand_width = fmt.mantissa_bits + 1

        # Stage 1: multiply significands (1 to 4, with 2·mantissa_bits fraction bits), add exponents, sort out special operands.
        product = Signal(2 * significand_width, reset_less=True)
        exponent_sum = Signal(fmt.exponent_bits + 1, reset_less=True)
        sign = Signal(reset_less=True)
        zero = Signal(reset_less=True)
        inf = Signal(reset_less=True)
        nan = Signal(reset_less=True)
        any_zero = is_zero(a) | is_zero(b)
        any_inf = is_inf(a) | is_inf(b)
        with m.If(self.enable):
            m.d.sync += [
                product.eq(Cat(a.mantissa, 1) * Cat(b.mantissa, 1)),
                exponent_sum.eq(a.exponent + b.exponent),
                sign.eq(a.sign ^ b.sign),
                zero.eq(any_zero),
                inf.eq(any_inf),
                nan.eq(is_nan(a) | is_nan(b) | (any_inf & any_zero)),
            ]

        # Stage 2: normalize by at most one place, round (the increment carries into the exponent), look at the range.
        large = product[-1]                                 # 2 ≤ significand < 4
        normalized = Signal(2 * significand_width)
        exponent = Signal(signed(fmt.exponent_bits + 2))
        rounded = Signal(signed(fmt.exponent_bits + 2 + fmt.mantissa_bits))
        rounded_exponent = rounded[fmt.mantissa_bits:].as_signed()
        result = Signal(self.o.shape(), reset_less=True)
        m.d.comb += [
            normalized.eq(Mux(large, product, product << 1)),
            exponent.eq(exponent_sum + large - fmt.bias),
            rounded.eq(Cat(normalized[significand_width:-1], exponent).as_signed()
                       + round_increment(normalized, significand_width)),
            self.o.eq(result),
        ]
        with m.If(self.enable):
            m.d.sync += result.sign.eq(sign)
            with m.If(nan):
                m.d.sync += result.eq(quiet_nan(fmt))
            with m.Elif(inf | (~zero & (rounded_exponent >= fmt.exponent_max))):
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(fmt.exponent_max)]
            with m.Elif(zero | (rounded_exponent <= 0)):
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(0)]
            with m.Else():
                m.d.sync += [
                    result.mantissa.eq(rounded[:fmt.mantissa_bits]),
                    result.exponent.eq(rounded_exponent),
                ]
        return m
