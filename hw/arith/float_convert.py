"""Floating-point format conversion."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout, unpack
from hw.elements import FloatFormat

__all__ = ["FloatConvert"]


class FloatConvert(wiring.Component):
    """Floating-point format conversion, rounded to nearest, ties to even.

    With `subnormals`, subnormal values of both formats count: a narrow format that lacks them loses a good part of its values, so
    this is the default. Without, subnormal operands count as zero of their sign and such results become it. What is too large
    becomes an infinity; NaN if the target has no infinity; its largest value if it has neither or with `saturate`; so does an
    infinity. NaN becomes the one quiet NaN, or +0 in a format without.

    Latency 3 cycles with `enable` high with subnormals (count zeros; shift; round), 1 without; initiation interval 1; no
    reset. A leading-zero count and shifters of the source's mantissa_bits + 1, an increment of the target's width.

    Parameters
    ----------
    source, target : FloatFormat
    subnormals : bool
    saturate : bool

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(`float_layout(source)`)
    o : Out(`float_layout(target)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`.

    Raises
    ------
    ConfigError
        If a format is not one for arithmetic (`check_format`).
    """

    def __init__(self, *, source: FloatFormat, target: FloatFormat, subnormals: bool = True, saturate: bool = False):
        check_format("FloatConvert.source", source)
        check_format("FloatConvert.target", target)
        self._source, self._target, self._subnormals, self._saturate = source, target, subnormals, saturate
        self.latency = 3 if subnormals else 1
        super().__init__({"enable": In(1), "i": In(float_layout(source)), "o": Out(float_layout(target))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source = self._source
        i = unpack(source, self.i, subnormals=self._subnormals)
        m.submodules.round = rounding = FloatRound(
            fmt=self._target, width=source.mantissa_bits + 1, exponent_width=source.exponent_bits,
            lsb=-source.bias - source.mantissa_bits, subnormals=self._subnormals, saturate=self._saturate,
            zeros=None if self._subnormals else 0, split=self._subnormals)
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(i.significand), rounding.exponent.eq(i.exponent),
            rounding.negative.eq(i.sign), rounding.inf.eq(i.inf), rounding.nan.eq(i.nan), self.o.eq(rounding.o),
        ]
        return m
