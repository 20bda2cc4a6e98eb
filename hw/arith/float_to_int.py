"""Floating point to signed integer."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, is_nan
from hw.arith.rounding import StickyShift, round_increment
from hw.config import ceil_log2
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["FloatToInt"]


class FloatToInt(wiring.Component):
    """Floating point to signed integer, rounded to nearest, ties to even, saturating.

    Beyond the integer's range, infinities included, the nearest end of it; NaN gives 0; subnormal values give 0, as rounding
    does. Latency 1 cycle with `enable` high, initiation interval 1; no reset.

    Parameters
    ----------
    width : int
        Bits of the integer, at least 2.
    fmt : FloatFormat
        Of the input.

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(`float_layout(fmt)`)
    o : Out(signed(width))

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`.

    Raises
    ------
    ConfigError
        If `width` is less than 2.
    """

    latency = 1

    def __init__(self, *, width: int, fmt: FloatFormat):
        if width < 2:
            raise ConfigError(f"FloatToInt.width must be at least 2, not {width!r}")
        self._width = width
        self._fmt = fmt
        super().__init__({"enable": In(1), "i": In(float_layout(fmt)), "o": Out(signed(width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, width = self._fmt, self._width

        # The word has width − 1 integer bits, a half bit and a sticky bit. The largest exponent that need not saturate puts the
        # leading one on top of it; a smaller one shifts it down, by width − 1 places for values from a half to one.
        integer_bits = width - 1
        saturating = fmt.bias + integer_bits                # stored exponent of 2**(width − 1)
        significand = Cat(self.i.mantissa, 1)
        rest_bits = max(0, len(significand) - (integer_bits + 1))
        padding = max(0, integer_bits + 1 - len(significand))
        m.submodules.shift = shift = StickyShift(width=integer_bits + 2, amount_width=ceil_log2(width))
        word = Cat(significand[:rest_bits].any(), C(0, padding), significand[rest_bits:])
        tiny = self.i.exponent < max(fmt.bias - 1, 1)       # less than a half, or subnormal
        m.d.comb += [
            shift.i.eq(Mux(tiny, 0, word)),
            shift.amount.eq(saturating - 1 - self.i.exponent),
        ]

        # Round and negate in one addition: −(t + r) = ~t + (1 − r).
        sign = self.i.sign
        increment = Signal()
        truncated = Signal(width)
        rounded = Signal(signed(width + 1))
        result = Signal(signed(width), reset_less=True)
        m.d.comb += [
            increment.eq(round_increment(shift.o, 2)),
            truncated.eq(shift.o[2:]),
            rounded.eq((truncated ^ sign.replicate(width + 1)).as_signed() + (increment ^ sign)),
            self.o.eq(result),
        ]
        above = (self.i.exponent >= min(saturating, fmt.exponent_max)) | (~sign & rounded[integer_bits])
        with m.If(self.enable):
            with m.If(is_nan(self.i)):
                m.d.sync += result.eq(0)
            with m.Elif(above):
                m.d.sync += result.eq(Mux(sign, -(1 << integer_bits), (1 << integer_bits) - 1))
            with m.Else():
                m.d.sync += result.eq(rounded)
        return m
