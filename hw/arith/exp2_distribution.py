"""Power of two, logistic sigmoid and normal distribution function of one evaluator."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.curve_evaluator import CurveEvaluator
from hw.arith.distribution import REACH, check_reach
from hw.arith.float_round import FloatRound
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.curves import curve
from hw.elements import FP32, FloatFormat

__all__ = ["Exp2Distribution"]


class Exp2Distribution(wiring.Component):
    """Power of two and distribution functions: o = 2^i, or 1 / (1 + e^−i), or Φ(i), word for word as `Exp2` and `Distribution`.

    They share the conversion to fixed point, the multipliers of Horner's rule and the rounding; each has its tables. Subnormal
    results are kept. Latency 5 + 2 · degree cycles with `enable` high (`FloatToInt`; `CurveEvaluator`; count zeros; shift and
    round), initiation interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        Of the argument and the result, with 2 mantissa bits and 4 exponent bits or more.

    Members
    -------
    enable : In(1)
        0 holds every register.
    distribution : In(1), normal : In(1)
        0, any: 2^i. 1, 0: the logistic sigmoid. 1, 1: Φ.
    i, o : In, Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from inputs to `o`: 11 of float32, 7 of formats with fewer than 12 mantissa bits.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`) or has no values beyond the tables.
    """

    def __init__(self, *, fmt: FloatFormat = FP32):
        check_format("Exp2Distribution.fmt", fmt)
        check_reach("Exp2Distribution.fmt", fmt)
        self._fmt = fmt
        self._exp2, self._tails = (curve(name, fmt.mantissa_bits) for name in ("exp2", "distribution"))
        self.latency = 5 + 2 * max(self._exp2.degree, self._tails.degree)
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "distribution": In(1), "normal": In(1), "i": In(layout), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, exp2, tails = self._fmt, self._exp2, self._tails

        # Fixed point. An argument of a distribution has fewer bits below the point, which its exponent makes up for, and one of Φ
        # is doubled. What is too small for that is less than a step of the table.
        fraction_bits = fmt.mantissa_bits + 2
        integer_bits = 1 + (fmt.bias + fmt.mantissa_bits + 2).bit_length()      # reach from zero to infinity
        tail_bits = tails.index_bits - 1 + tails.offset_bits
        less = fraction_bits - (tail_bits - REACH)
        m.submodules.to_int = to_int = FloatToInt(width=integer_bits + fraction_bits, fmt=fmt, fraction_bits=fraction_bits,
                                                  split=True)
        beyond = Signal()
        m.d.comb += [
            beyond.eq(self.i.exponent >= fmt.bias + REACH - self.normal),
            to_int.enable.eq(self.enable), to_int.i.eq(self.i),
        ]
        with m.If(self.distribution):
            m.d.comb += [to_int.i.sign.eq(0),
                         to_int.i.exponent.eq(Mux(self.i.exponent < less, 0, self.i.exponent - less + self.normal))]

        m.submodules.evaluator = evaluator = CurveEvaluator(exp2, tails)
        of_tail, normal = (registered(m, self.enable, flag, name, to_int.latency)
                           for name, flag in (("of_tail", self.distribution), ("of_normal", self.normal)))
        m.d.comb += [
            evaluator.enable.eq(self.enable), evaluator.select.eq(of_tail),
            evaluator.argument.eq(Mux(of_tail, Cat(to_int.o[:tail_bits], normal), to_int.o[:fraction_bits])),
        ]

        # The exponent of a power of two, with its top bit inverted, is the integer part above its least; that of a tail is fixed.
        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, to_int.latency + evaluator.latency)

        half = 1 << (integer_bits - 1)
        assert exp2.value_bits == tails.fraction_bits + 1
        m.submodules.round = rounding = FloatRound(fmt=fmt, width=exp2.value_bits, exponent_width=integer_bits,
                                                   lsb=-exp2.fraction_bits - half)
        integer = to_int.o[fraction_bits:]
        exponent = Mux(of_tail, half - 1, Cat(integer[:-1], ~integer[-1]))
        empty, positive = held(beyond, "empty") | evaluator.value[-1], held(~self.i.sign, "positive")
        tail, value = Signal(tails.fraction_bits), Signal(exp2.value_bits)
        m.d.comb += [
            tail.eq(Mux(empty, 0, evaluator.value)),
            value.eq(evaluator.value),
            rounding.enable.eq(self.enable),
            rounding.magnitude.eq(value),
            rounding.exponent.eq(registered(m, self.enable, exponent, "exponent", evaluator.latency)),
            rounding.nan.eq(held(unpack(fmt, self.i, subnormals=True).nan, "nan")), self.o.eq(rounding.o),
        ]
        with m.If(registered(m, self.enable, of_tail, "rounds_tail", evaluator.latency)):
            m.d.comb += rounding.magnitude.eq(Mux(positive, (1 << tails.fraction_bits) - tail, tail))
        return m
