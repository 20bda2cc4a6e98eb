"""Floating-point multiplication by a power of two."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.floating import check_format, float_layout, unpack
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["FloatScale"]


class FloatScale(wiring.Component):
    """Floating-point multiplication by a power of two: o = i · 2^n, an addition to the exponent.

    Exact, but where the exponent leaves its range: too large values become infinities (see `FloatRound`), small ones are rounded
    to subnormal values with `subnormals`, zeros of their sign without. Zeros, infinities and NaN stay.
    Latency 1 cycle with `enable` high, 2 with subnormals; initiation interval 1; no reset. Without subnormals an adder and two
    comparators of the exponent's width: what rescales attention outputs by powers of two without a multiplier.

    Parameters
    ----------
    fmt : FloatFormat
    exponent_width : int
        Bits of n, 2 to 10.
    subnormals : bool
        Gradual underflow, else flush to zero.
    saturate : bool
        What is too large becomes the largest finite value.

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(`float_layout(fmt)`), n : In(signed(exponent_width))
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i`, `n` to `o`.

    Raises
    ------
    ConfigError
        If `exponent_width` is out of its range, or the format not one for arithmetic (`check_format`).

    References
    ----------
    The rescaling of AMLA (MUL by ADD in FlashAttention rescaling, 2025), which adds to the bits of the word in memory; here zeros
    and both ends of the exponent's range are looked at.
    """

    def __init__(self, *, fmt: FloatFormat, exponent_width: int, subnormals: bool = False, saturate: bool = False):
        check_format("FloatScale.fmt", fmt)
        if not 2 <= exponent_width <= 10:
            raise ConfigError(f"FloatScale.exponent_width must be between 2 and 10, not {exponent_width!r}")
        self._fmt, self._exponent_width, self._subnormals, self._saturate = fmt, exponent_width, subnormals, saturate
        self.latency = 2 if subnormals else 1
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "i": In(layout), "n": In(signed(exponent_width)), "o": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        offset = 1 << (self._exponent_width - 1)
        i = unpack(fmt, self.i, subnormals=self._subnormals)
        m.submodules.round = rounding = FloatRound(
            fmt=fmt, width=fmt.mantissa_bits + 1, exponent_width=max(fmt.exponent_bits, self._exponent_width) + 1,
            lsb=-fmt.bias - fmt.mantissa_bits - offset, subnormals=self._subnormals, saturate=self._saturate,
            zeros=None if self._subnormals else 0)
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(i.significand),
            rounding.exponent.eq(i.exponent + self.n + offset), rounding.negative.eq(i.sign), rounding.inf.eq(i.inf),
            rounding.nan.eq(i.nan), self.o.eq(rounding.o),
        ]
        return m
