"""Signed integer or fixed point to floating point."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["IntToFloat"]


class IntToFloat(wiring.Component):
    """Signed integer, or fixed point, to floating point: o = i · 2^−fraction_bits, rounded to nearest, ties to even.

    Zero becomes +0; a magnitude beyond the format's range becomes an infinity of its sign (with float32 and up to 127 bits
    there is none, and no logic for it). Subnormal results are kept; integers have none. Latency 2 cycles with `enable` high,
    initiation interval 1; no reset.

    Parameters
    ----------
    width : int
        Bits of the integer, at least 2.
    fmt : FloatFormat
        Of the result.
    fraction_bits : int
        Weight of bit 0 is 2^−fraction_bits.
    saturate : bool
        What is too large becomes the largest finite value.

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
        If `width` is less than 2, or the format is not one for arithmetic (`check_format`).
    """

    latency = 2

    def __init__(self, *, width: int, fmt: FloatFormat, fraction_bits: int = 0, saturate: bool = False):
        if width < 2:
            raise ConfigError(f"IntToFloat.width must be at least 2, not {width!r}")
        check_format("IntToFloat.fmt", fmt)
        self._width, self._fmt, self._fraction_bits, self._saturate = width, fmt, fraction_bits, saturate
        super().__init__({"enable": In(1), "i": In(signed(width)), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # The magnitude is made in the cycle that counts its leading zeros.
        m.submodules.round = rounding = FloatRound(fmt=self._fmt, width=self._width, exponent_width=0, lsb=-self._fraction_bits,
                                                   saturate=self._saturate)
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(Mux(self.i[-1], -self.i, self.i)[:self._width]),
            rounding.negative.eq(self.i[-1]), self.o.eq(rounding.o),
        ]
        return m
