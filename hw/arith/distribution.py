"""Logistic sigmoid and normal distribution function."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.curve_evaluator import CurveEvaluator
from hw.arith.float_round import FloatRound
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.curves import curve
from hw.elements import FP32, FloatFormat
from hw.errors import ConfigError

__all__ = ["REACH", "Distribution", "check_reach"]

REACH = 4           # the logistic table ends at 2^4, the normal one at 2^3


def check_reach(where: str, fmt: FloatFormat) -> None:
    """Raise ConfigError if `fmt` has no values beyond the tables."""
    if fmt.exponent_max <= fmt.bias + REACH:
        raise ConfigError(f"{where} must have values of {2 << REACH} and more, not {fmt.name!r}")


class Distribution(wiring.Component):
    """Distribution functions: o = 1 / (1 + e^−i), the logistic sigmoid, or o = Φ(i), the standard normal one.

    SiLU is i · sigmoid, GELU i · Φ. What lies beyond |i| is a piecewise polynomial q of it (one table and one evaluator for
    both), the result q where i is negative, 1 − q where it is not: so o(−i) = 1 − o(i), and 1/2 at zero exactly. Beyond the
    table, from 16 and 8 on, results are 0 and 1, as they are of infinities; NaN gives NaN. |i| is rounded to a fixed point of
    mantissa_bits + 1 bits (+ 3 below 12) up to 16 or 8, and q has steps of 2^−(mantissa_bits + 5): the error is an absolute one,
    for float32 below 2^−21.5 (sigmoid) and 2^−22.5 (Φ). Monotonic but for one unit in the last place.
    Latency 5 + 2 · degree cycles with `enable` high (`FloatToInt`; `CurveEvaluator`; count zeros; shift and round), initiation
    interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        Of the argument and the result, with 2 mantissa bits and 4 exponent bits or more.
    degree, segments_log2 : int or None
        Of the curve (`hw.curves.curve`).

    Members
    -------
    enable : In(1)
        0 holds every register.
    select : In(1)
        0: logistic; 1: normal.
    i, o : In, Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` and `select` to `o`: 11 of float32, 7 of formats with fewer than 12 mantissa bits.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`) or has no values beyond the table, or the curve cannot be.
    """

    def __init__(self, *, fmt: FloatFormat = FP32, degree: int | None = None, segments_log2: int | None = None):
        check_format("Distribution.fmt", fmt)
        check_reach("Distribution.fmt", fmt)
        self._curve = curve("distribution", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
        self._fmt = fmt
        self.latency = 5 + 2 * self._curve.degree
        super().__init__({"enable": In(1), "select": In(1), "i": In(float_layout(fmt)), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, table = self._fmt, self._curve
        width = table.index_bits - 1 + table.offset_bits        # of an argument
        one = 1 << table.fraction_bits
        m.submodules.to_int = to_int = FloatToInt(width=width + 1, fmt=fmt, fraction_bits=width - REACH, split=True)
        m.submodules.evaluator = evaluator = CurveEvaluator(table)
        m.submodules.round = rounding = FloatRound(fmt=fmt, width=table.fraction_bits + 1, exponent_width=0,
                                                   lsb=-table.fraction_bits)

        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, to_int.latency + evaluator.latency)

        # Twice the argument of Φ. What doubling does to the largest exponents and to subnormal words is of no account: the ones
        # are beyond the table, the others less than a step of it.
        beyond = Signal()
        empty, positive = held(beyond, "empty") | evaluator.value[-1], held(~self.i.sign, "positive")
        tail = Signal(table.fraction_bits)
        select = registered(m, self.enable, self.select, "select", to_int.latency)
        m.d.comb += [
            beyond.eq(self.i.exponent >= fmt.bias + REACH - self.select),
            to_int.enable.eq(self.enable), to_int.i.mantissa.eq(self.i.mantissa), to_int.i.sign.eq(0),
            to_int.i.exponent.eq(self.i.exponent + self.select),
            evaluator.enable.eq(self.enable),
            evaluator.argument.eq(Cat(to_int.o[:width], select)),
            tail.eq(Mux(empty, 0, evaluator.value)),
            rounding.enable.eq(self.enable), rounding.magnitude.eq(Mux(positive, one - tail, tail)),
            rounding.nan.eq(held(unpack(fmt, self.i, subnormals=True).nan, "nan")), self.o.eq(rounding.o),
        ]
        return m
