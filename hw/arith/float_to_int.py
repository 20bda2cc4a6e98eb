"""Floating point to signed integer or fixed point."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.arith.rounding import StickyShift, round_increment
from hw.config import ceil_log2
from hw.elements import FloatFormat
from hw.errors import ConfigError

__all__ = ["FloatToInt"]


class FloatToInt(wiring.Component):
    """Floating point to signed integer, or fixed point: o = i · 2^fraction_bits, rounded to nearest, ties to even, saturating.

    Beyond the integer's range, infinities included, the nearest end of it; NaN gives 0. Subnormal values count as what they are;
    as integers they are 0. Latency 1 cycle with `enable` high, 2 with `split`; initiation interval 1; no reset.

    Parameters
    ----------
    width : int
        Bits of the integer, at least 2.
    fmt : FloatFormat
        Of the input.
    fraction_bits : int
        Weight of bit 0 of the result is 2^−fraction_bits.
    split : bool
        A register between shifting and rounding, for fast clocks.

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
        If `width` is less than 2, `fraction_bits` so large that only subnormal values do not saturate, or the format not one for
        arithmetic (`check_format`).
    """

    latency = 1             # without `split`

    def __init__(self, *, width: int, fmt: FloatFormat, fraction_bits: int = 0, split: bool = False):
        if width < 2:
            raise ConfigError(f"FloatToInt.width must be at least 2, not {width!r}")
        check_format("FloatToInt.fmt", fmt)
        if fraction_bits > fmt.bias + width - 3:
            raise ConfigError(f"FloatToInt.fraction_bits must be at most bias + width - 3 = {fmt.bias + width - 3}, "
                              f"not {fraction_bits!r}")
        self._width, self._fmt, self._fraction_bits, self._split = width, fmt, fraction_bits, split
        self.latency = 1 + split
        super().__init__({"enable": In(1), "i": In(float_layout(fmt)), "o": Out(signed(width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, width = self._fmt, self._width
        i = unpack(fmt, self.i, subnormals=True)

        # The word is an integer of width − 1 bits, a half bit and a sticky bit. The largest exponent that need not saturate puts
        # the leading one on top of it; a smaller one shifts it down, by width − 1 places for values from a half to one.
        integer_bits = width - 1
        one = fmt.bias - self._fraction_bits                # stored exponent of what becomes 1
        saturating = one + integer_bits                     # and of 2**(width − 1)
        rest_bits = max(0, len(i.significand) - (integer_bits + 1))
        padding = max(0, integer_bits + 1 - len(i.significand))
        m.submodules.shift = shift = StickyShift(width=integer_bits + 2, amount_width=ceil_log2(width))
        word = Cat(i.significand[:rest_bits].any(), C(0, padding), i.significand[rest_bits:])
        tiny = i.exponent < one - 1 if one > 2 else C(0, 1)             # less than a half
        m.d.comb += [
            shift.i.eq(Mux(tiny, 0, word)),
            shift.amount.eq(saturating - 1 - i.exponent),
        ]

        # Round and negate in one addition: −(t + r) = ~t + (1 − r).
        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, self._split)

        shifted, sign, nan = held(shift.o, "shifted"), held(i.sign, "sign"), held(i.nan, "nan")
        large = held(i.inf | (i.exponent >= saturating) if saturating <= fmt.exponent_max else i.inf, "large")
        increment = Signal()
        truncated = Signal(width)
        rounded = Signal(signed(width + 1))
        result = Signal(signed(width), reset_less=True)
        m.d.comb += [
            increment.eq(round_increment(shifted, 2)),
            truncated.eq(shifted[2:]),
            rounded.eq((truncated ^ sign.replicate(width + 1)).as_signed() + (increment ^ sign)),
            self.o.eq(result),
        ]
        above = large | (~sign & rounded[integer_bits])
        with m.If(self.enable):
            with m.If(nan):
                m.d.sync += result.eq(0)
            with m.Elif(above):
                m.d.sync += result.eq(Mux(sign, -(1 << integer_bits), (1 << integer_bits) - 1))
            with m.Else():
                m.d.sync += result.eq(rounded)
        return m
