"""Reciprocal square roots."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.curve_evaluator import CurveEvaluator
from hw.arith.float_normalize import FloatNormalize
from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout
from hw.arith.pipeline import registered
from hw.curves import curve
from hw.elements import FloatFormat

__all__ = ["Rsqrt"]


class Rsqrt(wiring.Component):
    """Reciprocal square root: o = 1 / √i, by a piecewise polynomial of the mantissa and the parity of the exponent.

    With the curve by default the error is below one unit in the last place, the function monotonic, and exact for powers of
    four. As IEEE 754 rSqrt: of ±0 the infinity of that sign, of +Inf +0, of NaN and of anything below zero NaN. Latency 2 + 2 ·
    degree cycles with `enable` high, 2 more with subnormals (`FloatNormalize`; `CurveEvaluator`; shift and round); initiation
    interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        Of the argument and the result, with 2 mantissa bits or more.
    subnormals : bool
        Of the argument and the result; else they are zeros.
    saturate : bool
        Infinities become the largest finite value.
    degree, segments_log2 : int or None
        Of the curve (`hw.curves.curve`).

    Members
    -------
    enable : In(1)
        0 holds every register.
    i, o : In, Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`: 6 of float32, 4 of formats with fewer than 12 mantissa bits; 2 more with subnormals.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`), or the curve cannot be.
    """

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False, degree: int | None = None,
                 segments_log2: int | None = None):
        check_format("Rsqrt.fmt", fmt)
        self._curve = curve("rsqrt", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
        self._fmt, self._subnormals, self._saturate = fmt, subnormals, saturate
        self.latency = 2 + 2 * self._curve.degree + 2 * subnormals
        super().__init__({"enable": In(1), "i": In(float_layout(fmt)), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, table = self._fmt, self._curve
        m.submodules.normalize = i = FloatNormalize(fmt=fmt, subnormals=self._subnormals)
        m.submodules.evaluator = evaluator = CurveEvaluator(table)
        # i = 2^(2·half + odd) · (1 + mantissa); half counts down from its largest.
        unbiased = Signal(Shape.cast(range(1 - fmt.mantissa_bits - fmt.bias, fmt.exponent_max - fmt.bias + 1)))
        most = (fmt.exponent_max - fmt.bias) >> 1
        least = (1 - fmt.mantissa_bits - fmt.bias) >> 1
        exponent = most - (unbiased >> 1)
        m.submodules.round = rounding = FloatRound(
            fmt=fmt, width=table.value_bits, exponent_width=(most - least).bit_length(), lsb=-table.fraction_bits - most,
            subnormals=self._subnormals, saturate=self._saturate, zeros=3)

        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, evaluator.latency)

        m.d.comb += [
            i.enable.eq(self.enable), i.i.eq(self.i), unbiased.eq(i.exponent - fmt.bias),
            evaluator.enable.eq(self.enable), evaluator.argument.eq(Cat(i.mantissa, unbiased[0])),
            rounding.enable.eq(self.enable), rounding.magnitude.eq(Mux(held(i.inf, "vanishing"), 0, evaluator.value)),
            rounding.exponent.eq(held(exponent[:len(rounding.exponent)], "exponent")),
            rounding.negative.eq(held(i.sign, "negative")), rounding.inf.eq(held(i.zero, "inf")),
            rounding.nan.eq(held(i.nan | (i.sign & ~i.zero), "nan")), self.o.eq(rounding.o),
        ]
        return m
