"""Signed integer to floating point."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout
from hw.arith.leading_zeros import LeadingZeroCount
from hw.arith.rounding import round_increment
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["IntToFloat"]


class IntToFloat(wiring.Component):
    """Signed integer to floating point, rounded to nearest, ties to even.

    Zero becomes +0; a magnitude beyond the format's range becomes an infinity of its sign (with float32 and up to 127 bits
    there is none, and no logic for it). Latency 2 cycles with `enable` high, initiation interval 1; no reset.

    Parameters
    ----------
    width : int
        Bits of the integer, at least 2.
    fmt : FloatFormat
        Of the result.

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(signed(width))
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`.

    Raises
    ------
    ConfigError
        If `width` is less than 2.
    """

    latency = 2

    def __init__(self, *, width: int, fmt: FloatFormat):
        if width < 2:
            raise ConfigError(f"IntToFloat.width must be at least 2, not {width!r}")
        self._width = width
        self._fmt = fmt
        super().__init__({"enable": In(1), "i": In(signed(width)), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, width = self._fmt, self._width

        # Stage 1: sign and magnitude, and how far the magnitude is from being normalized.
        m.submodules.leading_zeros = leading_zeros = LeadingZeroCount(width=width)
        absolute = Signal(width)
        sign = Signal(reset_less=True)
        magnitude = Signal(width, reset_less=True)
        zeros = Signal.like(leading_zeros.o, reset_less=True)
        m.d.comb += [
            absolute.eq(Mux(self.i[-1], -self.i, self.i)),
            leading_zeros.i.eq(absolute),
        ]
        with m.If(self.enable):
            m.d.sync += [sign.eq(self.i[-1]), magnitude.eq(absolute), zeros.eq(leading_zeros.o)]

        # Stage 2: normalize, round. The increment carries from the mantissa into the exponent above it.
        normalized: Value = magnitude
        for bit in reversed(range(len(zeros))):
            distance = min(1 << bit, width)
            stage = Signal(width, name=f"normalized_{1 << bit}")
            m.d.comb += stage.eq(Mux(zeros[bit], Cat(C(0, distance), normalized[:width - distance]), normalized))
            normalized = stage
        drop = max(0, width - 1 - fmt.mantissa_bits)
        padding = max(0, fmt.mantissa_bits - (width - 1))
        mantissa = Cat(C(0, padding), normalized[drop:width - 1])
        top = fmt.bias + width - 1                          # stored exponent when there is no leading zero
        exponent_width = max(fmt.exponent_bits, (top + 1).bit_length())
        exponent = Signal(exponent_width)
        rounded = Signal(exponent_width + fmt.mantissa_bits)
        result = Signal(self.o.shape(), reset_less=True)
        m.d.comb += [
            exponent.eq(top - zeros),
            rounded.eq(Cat(mantissa, exponent) + round_increment(normalized, drop)),
            self.o.eq(result),
        ]
        with m.If(self.enable):
            m.d.sync += [
                result.mantissa.eq(rounded[:fmt.mantissa_bits]),
                result.exponent.eq(rounded[fmt.mantissa_bits:]),
                result.sign.eq(sign),
            ]
            if top + 1 >= fmt.exponent_max:
                with m.If(rounded[fmt.mantissa_bits:] >= fmt.exponent_max):
                    m.d.sync += [result.mantissa.eq(0), result.exponent.eq(fmt.exponent_max)]
            with m.If(~normalized[-1]):                     # only zero has no leading one
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(0)]
        return m
