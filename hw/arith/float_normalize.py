"""Mantissa and exponent of a floating-point word, subnormal ones normalized."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.leading_zeros import LeadingZeroCount
from hw.arith.pipeline import registered
from hw.elements import FloatFormat

__all__ = ["FloatNormalize"]


class FloatNormalize(wiring.Component):
    """Mantissa and exponent of a word: |i| = (1 + mantissa · 2^−mantissa_bits) · 2^(exponent − bias).

    The exponent of a subnormal value is 0 or less. Without `subnormals` those are zero, and the block is wires: latency 0. With
    them latency 2 cycles with `enable` high (count zeros; shift), initiation interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
    subnormals : bool

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(`float_layout(fmt)`)
    mantissa : Out(mantissa_bits), exponent : Out(signed)
        Of values other than zero, Inf and NaN.
    sign, zero, inf, nan : Out(1)

    Attributes
    ----------
    latency : int
        Cycles from `i` to the outputs.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`).
    """

    def __init__(self, *, fmt: FloatFormat, subnormals: bool):
        check_format("FloatNormalize.fmt", fmt)
        self._fmt, self._subnormals = fmt, subnormals
        self.latency = 2 if subnormals else 0
        super().__init__({
            "enable": In(1), "i": In(float_layout(fmt)), "mantissa": Out(fmt.mantissa_bits),
            "exponent": Out(Shape.cast(range(1 - fmt.mantissa_bits, fmt.exponent_max + 1))),
            "sign": Out(1), "zero": Out(1), "inf": Out(1), "nan": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def held(value: Value, name: str, stages: int) -> Value:
            return registered(m, self.enable, value, name, stages)

        i = unpack(self._fmt, self.i, subnormals=self._subnormals)
        for name in ("sign", "zero", "inf", "nan"):
            m.d.comb += getattr(self, name).eq(held(getattr(i, name), name, self.latency))
        significand, exponent = i.significand, i.exponent
        if self._subnormals:
            m.submodules.leading_zeros = leading_zeros = LeadingZeroCount(width=len(significand))
            m.d.comb += leading_zeros.i.eq(significand)
            zeros = held(leading_zeros.o, "zeros", 1)
            significand = held(held(significand, "significand", 1) << zeros, "normalized", 1)
            exponent = held(held(exponent, "stored", 1) - zeros, "exponent", 1)
        m.d.comb += [self.mantissa.eq(significand[:self._fmt.mantissa_bits]), self.exponent.eq(exponent)]
        return m
