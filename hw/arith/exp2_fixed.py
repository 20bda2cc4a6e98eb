"""Powers of two with fixed-point exponents."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.curve_evaluator import CurveEvaluator
from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout
from hw.arith.pipeline import registered
from hw.curves import curve
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["Exp2Fixed"]


class Exp2Fixed(wiring.Component):
    """Power of two of a fixed-point number: o = 2^(i · 2^−fraction_bits).

    The integer part becomes the exponent, the fraction the mantissa, by a piecewise polynomial. With the curve by default the
    error is below one unit in the last place, the function monotonic, and exact for integers.
    Latency 2 + 2 · degree cycles with `enable` high (`CurveEvaluator`; shift and round), initiation interval 1; no reset.

    Parameters
    ----------
    width : int
        Bits of the signed argument.
    fraction_bits : int
        Of those, below the point: 1 to the format's mantissa_bits + 2, and fewer than `width`.
    fmt : FloatFormat
        Of the result, with 2 mantissa bits or more.
    subnormals : bool
        Results are subnormal, else flushed to zero.
    saturate : bool
        What is too large becomes the largest finite value.
    degree, segments_log2 : int or None
        Of the curve (`hw.curves.curve`).

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(signed(width))
    nan : In(1)
        The result is NaN.
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`.

    Raises
    ------
    ConfigError
        If `fraction_bits` or `width` is out of its range, the format not one for arithmetic (`check_format`), or the curve cannot
        be.

    References
    ----------
    Stevens et al., Softermax, DAC 2021: base 2, integer part to a shift, fraction to a piecewise function; theirs is linear with
    4 segments.
    """

    def __init__(self, *, width: int, fraction_bits: int, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False,
                 degree: int | None = None, segments_log2: int | None = None):
        check_format("Exp2Fixed.fmt", fmt)
        if not 1 <= fraction_bits <= fmt.mantissa_bits + 2:
            raise ConfigError(f"Exp2Fixed.fraction_bits must be between 1 and {fmt.mantissa_bits + 2} for {fmt.name}, "
                              f"not {fraction_bits!r}")
        if not fraction_bits < width <= fraction_bits + 12:
            raise ConfigError(f"Exp2Fixed.width must be between fraction_bits + 1 and fraction_bits + 12 = {fraction_bits + 12}, "
                              f"not {width!r}")
        self._curve = curve("exp2", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
        self._width, self._fraction_bits, self._fmt = width, fraction_bits, fmt
        self._subnormals, self._saturate = subnormals, saturate
        self.latency = 2 + 2 * self._curve.degree
        super().__init__({"enable": In(1), "i": In(signed(width)), "nan": In(1), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        table = self._curve
        m.submodules.evaluator = evaluator = CurveEvaluator(table)
        # The exponent with its top bit inverted is the integer part above its least.
        integer_bits = self._width - self._fraction_bits
        m.submodules.round = rounding = FloatRound(
            fmt=self._fmt, width=table.value_bits, exponent_width=integer_bits,
            lsb=-table.fraction_bits - (1 << (integer_bits - 1)), subnormals=self._subnormals, saturate=self._saturate, zeros=3)
        integer = self.i[self._fraction_bits:]

        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, evaluator.latency)

        m.d.comb += [
            evaluator.enable.eq(self.enable),
            evaluator.argument.eq(self.i[:self._fraction_bits] << (len(evaluator.argument) - self._fraction_bits)),
            rounding.enable.eq(self.enable), rounding.magnitude.eq(evaluator.value),
            rounding.exponent.eq(held(Cat(integer[:-1], ~integer[-1]), "exponent")), rounding.nan.eq(held(self.nan, "nan")),
            self.o.eq(rounding.o),
        ]
        return m
