"""Significand and exponent → floating point: the one place where arithmetic rounds to a format."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import check_format, float_layout, infinity, largest, quiet_nan
from hw.arith.leading_zeros import LeadingZeroCount
from hw.arith.pipeline import registered
from hw.arith.rounding import StickyShift, at_most, round_increment
from hw.elements import FP32, FloatFormat, Specials
from hw.errors import ConfigError

__all__ = ["FloatRound"]

_FEW_ZEROS = 3          # so few leading zeros are counted and shifted out in the cycle that rounds


class FloatRound(wiring.Component):
    """Rounds magnitude · 2^(exponent + lsb) to a floating-point format once, to nearest, ties to even.

    A zero has the sign that it is given. With `subnormals`, results below the smallest normal value are rounded to a multiple
    of the smallest subnormal one; without, rounding knows no lower bound of the exponent, and what is then below the smallest
    normal value becomes a zero of its sign. What is too large after rounding becomes an infinity of its sign; the one NaN, if
    the format has no infinity; the largest value, if it has neither or with `saturate`. So does `inf`. NaN becomes the one
    quiet NaN, positive and without payload, or +0 if the format has none.

    Bit 0 of the magnitude may be a sticky bit (1 if anything below it is not 0), if the magnitude then is at least `precision`
    + 2 bits long from its leading one, or from the place of the smallest subnormal value.

    Latency 2 cycles with `enable` high (count leading zeros; shift and round), 1 if `zeros` is at most 3, 1 more with `split`;
    initiation interval 1; no reset. What the bounds of the exponent rule out (overflow, subnormal results, rounding) has no
    logic.

    Parameters
    ----------
    fmt : FloatFormat
        Of the result; by default float32.
    width : int
        Bits of the magnitude, at least 1.
    exponent_width : int
        Bits of the unsigned exponent; 0: there is none, and no port.
    lsb : int
        Weight of the magnitude's bit 0 where the exponent is 0, as a power of two.
    subnormals : bool
        Whether results are subnormal; else they are flushed to zero.
    saturate : bool
        Too large values and infinities become the largest finite value.
    zeros : int or None
        Leading zeros that a magnitude other than 0 has at most; None: there may be any number.
    split : bool
        A register between shifting and rounding, for fast clocks.

    Members
    -------
    enable : In(1)
        0 holds every register.
    magnitude : In(width), negative : In(1), exponent : In(exponent_width), nan : In(1), inf : In(1)
        `nan` goes before `inf`, and `inf` before the magnitude.
    o : Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from inputs to `o`.

    Raises
    ------
    ConfigError
        If a width is too small, `zeros` out of its range, or the format not one for arithmetic (`check_format`).
    """

    def __init__(self, *, width: int, exponent_width: int, lsb: int, fmt: FloatFormat = FP32, subnormals: bool = True,
                 saturate: bool = False, zeros: int | None = None, split: bool = False):
        check_format("FloatRound.fmt", fmt)
        for name, value, low in (("width", width, 1), ("exponent_width", exponent_width, 0)):
            if value < low:
                raise ConfigError(f"FloatRound.{name} must be at least {low}, not {value!r}")
        if zeros is not None and not 0 <= zeros < width:
            raise ConfigError(f"FloatRound.zeros must be between 0 and width - 1 = {width - 1}, not {zeros!r}")
        self._fmt, self._width, self._exponent_width, self._lsb = fmt, width, exponent_width, lsb
        self._subnormals, self._saturate, self._split = subnormals, saturate, split
        self._zeros = width if zeros is None else zeros
        self._count_latency = int(zeros is None or zeros > _FEW_ZEROS)
        self.latency = 1 + self._count_latency + split
        members: dict[str, Any] = {"enable": In(1), "magnitude": In(width), "negative": In(1), "nan": In(1), "inf": In(1),
                                   "o": Out(float_layout(fmt))}
        if exponent_width:
            members["exponent"] = In(exponent_width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # The word is aligned to the left, but with subnormal results only as far as the smallest exponent allows: `room` places.
        # Where there is less than none, it goes to the right, and two bits below the last one keep what rounding must know of
        # those that fall out.
        fmt = self._fmt
        top = self._lsb + self._width - 1 - (1 - fmt.bias)      # weight of the top bit above the smallest exponent's
        below = self._subnormals and top < 0
        padding = max(0, fmt.mantissa_bits + 3 - self._width) if below else 0
        width = self._width + padding
        largest_room = top + (1 << self._exponent_width) - 1
        exponent = self.exponent if self._exponent_width else C(0, 1)

        # Stage 1: how far the leading one is from the top, and how far it may go.
        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name, self._count_latency)

        count: Value = C(0, 0)
        if self._zeros:
            m.submodules.leading_zeros = leading_zeros = LeadingZeroCount(width=self._zeros)
            m.d.comb += leading_zeros.i.eq(self.magnitude[self._width - self._zeros:])
            count = leading_zeros.o
        room = Signal(Shape.cast(range(min(top, 0), max(largest_room, 0) + 1)))
        m.d.comb += room.eq(exponent + top)
        word = held(Cat(C(0, padding), self.magnitude), "word")
        zeros, room_held = held(count, "zeros"), held(room, "room")
        flags = tuple(held(flag, name) for flag, name in ((self.negative, "negative"), (self.nan, "nan"), (self.inf, "inf")))

        # Stage 2: align, round. The increment carries from the mantissa into the exponent above it.
        distance = Signal(range(self._zeros + 1))
        lowest = 0 if self._subnormals else min(top - self._zeros + 1, 0)
        stored = Signal(Shape.cast(range(lowest, max(largest_room, 0) + 2)))
        aligned = Signal(width)
        m.d.comb += distance.eq(zeros)
        if self._subnormals and top < self._zeros:              # else there always is enough room
            with m.If(room_held < zeros):
                m.d.comb += distance.eq(room_held)
        m.d.comb += [aligned.eq(_left(m, word, distance)),
                     stored.eq(room_held - distance + (aligned[-1] if self._subnormals else 1))]
        if below:
            m.submodules.right = right = StickyShift(width=width, amount_width=(width + 1).bit_length())
            amount = Signal(range(-top + 1))
            m.d.comb += [amount.eq(-room_held), right.i.eq(word), right.amount.eq(at_most(amount, width))]
            with m.If(room_held < 0):
                m.d.comb += [aligned.eq(right.o), stored.eq(0)]
        # Stage 3, if it is split. What can be said of the range before rounding is said in stage 2: then only a carry counts.
        below_normal = (stored < 0) | (word == 0) if stored.shape().signed else word == 0
        self._round(m, *(registered(m, self.enable, value, f"shifted_{name}", self._split) for name, value in (
            ("word", aligned), ("exponent", stored), ("zero", word == 0), ("small", below_normal), ("least", stored == 0),
            ("large", stored >= fmt.exponent_max), ("just_below", stored == fmt.exponent_max - 1),
            *zip(("negative", "nan", "inf"), flags, strict=True))))
        return m

    def _round(self, m: Module, aligned: Value, stored: Value, zero: Value, small: Value, least: Value, large: Value,
               just_below: Value, negative: Value, nan: Value, inf: Value) -> None:
        fmt, width = self._fmt, len(aligned)
        precision = fmt.mantissa_bits + 1
        drop = max(0, width - precision)
        mantissa = Cat(C(0, max(0, precision - width)), aligned[drop:width - 1])
        signed_exponent = stored.shape().signed                 # only without subnormal results
        word = Cat(mantissa, stored)
        rounded = Signal(Shape(fmt.mantissa_bits + max(len(stored), fmt.exponent_bits) + 1, signed=signed_exponent))
        result = Signal(self.o.shape(), reset_less=True)
        m.d.comb += [
            rounded.eq((word.as_signed() if signed_exponent else word) + round_increment(aligned, drop)), self.o.eq(result),
        ]
        bound = self._lsb + self._width + (1 << self._exponent_width) - 1       # every value is below 2^bound
        reserved = fmt.specials is Specials.IEEE
        carry = rounded[fmt.mantissa_bits] ^ stored[0]
        over = large | (just_below & carry) if reserved else rounded > largest(fmt).as_bits()
        too_large = ~zero & over if bound > fmt.exponent_max - reserved - fmt.bias else C(0, 1)
        beyond = largest(fmt) if self._saturate else infinity(fmt)
        with m.If(self.enable):
            m.d.sync += [Cat(result.mantissa, result.exponent).eq(rounded), result.sign.eq(negative)]
            with m.If(zero if self._subnormals else small | (least & ~carry)):
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(0)]
            with m.If(inf | too_large):
                m.d.sync += [result.mantissa.eq(beyond.mantissa), result.exponent.eq(beyond.exponent)]
                if not self._saturate and fmt.specials is Specials.NAN:
                    m.d.sync += result.sign.eq(0)
            with m.If(nan):
                m.d.sync += result.eq(quiet_nan(fmt))


def _left(m: Module, word: Value, distance: Signal) -> Value:
    """Return `word` shifted left within its width."""
    width = len(word)
    for bit in reversed(range(len(distance))):
        places = min(1 << bit, width)
        stage = Signal(width, name=f"aligned_{1 << bit}")
        m.d.comb += stage.eq(Mux(distance[bit], Cat(C(0, places), word[:width - places]), word))
        word = stage
    return word
