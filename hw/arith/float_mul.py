"""Floating-point multiplier."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.multiply import multiplied, multiply_latency
from hw.arith.pipeline import registered
from hw.elements import FloatFormat

__all__ = ["FloatMultiply"]


class FloatMultiply(wiring.Component):
    """Floating-point multiplier: o = a · b, rounded once, to nearest, ties to even.

    With `subnormals`, o is the IEEE 754 product. Without, a subnormal operand counts as zero of its sign; the product is rounded
    as if the exponent had no lower bound, and if it is then below the smallest normal value it becomes zero of its sign. NaN ×
    anything and Inf × 0 (or × what counts as 0) give the one quiet NaN. Formats without infinities: `FloatRound`.

    Latency 2 cycles with `enable` high without subnormals (multiply; round), 3 with them (multiply; count zeros; shift and
    round), and with `pipelined` 1 more (shift; round), 2 more with more than 17 mantissa bits (multiply takes two); initiation
    interval 1; no reset. One multiplier of mantissa_bits + 1 bits a side; subnormals cost a leading-zero
    count and two shifters of twice that.

    Parameters
    ----------
    fmt : FloatFormat
        Of the operands and the product.
    subnormals : bool
        Gradual underflow, else flush to zero.
    saturate : bool
        What is too large becomes the largest finite value.
    pipelined : bool
        More registers, for fast clocks.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b` to `o`: `FloatMultiply.FLUSHED_LATENCY` with neither subnormals nor `pipelined`.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`).
    """

    FLUSHED_LATENCY = 2

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False, pipelined: bool = False):
        check_format("FloatMultiply.fmt", fmt)
        self._fmt, self._subnormals, self._saturate, self._pipelined = fmt, subnormals, saturate, pipelined
        self._multiply = multiply_latency(fmt.mantissa_bits + 1) if pipelined else 1
        self.latency = self._multiply + 1 + subnormals + pipelined
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        # Two normal significands make a product of 1 to 4: at most one leading zero.
        m.submodules.round = rounding = FloatRound(
            fmt=fmt, width=2 * (fmt.mantissa_bits + 1), exponent_width=fmt.exponent_bits + 1,
            lsb=-2 * (fmt.bias + fmt.mantissa_bits), subnormals=self._subnormals, saturate=self._saturate,
            zeros=None if self._subnormals else 1, split=self._pipelined)
        a, b = (unpack(fmt, word, subnormals=self._subnormals) for word in (self.a, self.b))

        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, self._multiply)

        product = (multiplied(m, self.enable, a.significand, b.significand, "product") if self._pipelined
                   else held(a.significand * b.significand, "product"))
        m.d.comb += [
            rounding.enable.eq(self.enable),
            rounding.magnitude.eq(product),
            rounding.exponent.eq(held(a.exponent + b.exponent, "exponent")),
            rounding.negative.eq(held(a.sign ^ b.sign, "negative")),
            rounding.inf.eq(held(a.inf | b.inf, "inf")),
            rounding.nan.eq(held(a.nan | b.nan | ((a.inf | b.inf) & (a.zero | b.zero)), "nan")),
            self.o.eq(rounding.o),
        ]
        return m
