"""Significand and exponent → float32."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, quiet_nan
from hw.arith.leading_zeros import LeadingZeroCount
from hw.arith.rounding import StickyShift, round_increment
from hw.elements import FP32
from hw.errors import ConfigError

__all__ = ["ToFloat"]

_FMT = FP32
_PRECISION = _FMT.mantissa_bits + 1
_MIN_EXPONENT = 1 - _FMT.bias
_MAX_EXPONENT = _FMT.bias


class ToFloat(wiring.Component):
    """Float32 of magnitude · 2^(exponent + lsb), rounded once, to nearest, ties to even.

    Subnormal results are kept, what is too large becomes an infinity, and a zero has the sign that it is given. Any NaN becomes
    the one quiet NaN, positive and without payload. Latency 2 cycles with `enable` high, initiation interval 1; no reset.
    What the bounds of the exponent rule out (overflow, subnormal results, rounding) has no logic.

    Parameters
    ----------
    width : int
        Bits of the magnitude, at least 1.
    exponent_width : int
        Bits of the unsigned exponent; 0: there is none, and no port.
    lsb : int
        Weight of the magnitude's bit 0 where the exponent is 0, as a power of two.

    Members
    -------
    enable : In(1)
        0 holds every register.
    magnitude : In(width), negative : In(1), exponent : In(exponent_width), nan : In(1), inf : In(1)
        `nan` goes before `inf`, and `inf` before the magnitude.
    o : Out(`float_layout(FP32)`)

    Attributes
    ----------
    latency : int
        Cycles from inputs to `o`.

    Raises
    ------
    ConfigError
        If a width is too small.
    """

    latency = 2

    def __init__(self, *, width: int, exponent_width: int, lsb: int):
        for name, value, low in (("width", width, 1), ("exponent_width", exponent_width, 0)):
            if value < low:
                raise ConfigError(f"ToFloat.{name} must be at least {low}, not {value!r}")
        self._width, self._exponent_width, self._lsb = width, exponent_width, lsb
        members: dict[str, Any] = {"enable": In(1), "magnitude": In(width), "negative": In(1), "nan": In(1), "inf": In(1),
                                   "o": Out(float_layout(_FMT))}
        if exponent_width:
            members["exponent"] = In(exponent_width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # The word is aligned to the left, but only as far as the smallest exponent allows: `room` places. Where there is less
        # than none, it goes to the right, and two bits below the last one keep what rounding must know of those that fall out.
        top = self._lsb + self._width - 1 - _MIN_EXPONENT       # weight of the top bit above the smallest exponent's
        padding = max(0, _PRECISION + 2 - self._width) if top < 0 else 0
        width = self._width + padding
        largest_room = top + (1 << self._exponent_width) - 1
        exponent = self.exponent if self._exponent_width else C(0, 1)

        # Stage 1: how far the leading one is from the top, and how far it may go.
        m.submodules.leading_zeros = leading_zeros = LeadingZeroCount(width=self._width)
        word = Signal(width, reset_less=True)
        zeros = Signal.like(leading_zeros.o, reset_less=True)
        room = Signal(Shape.cast(range(min(top, 0), max(largest_room, 0) + 1)), reset_less=True)
        negative, nan, inf = (Signal(name=name, reset_less=True) for name in ("negative_1", "nan_1", "inf_1"))
        m.d.comb += leading_zeros.i.eq(self.magnitude)
        with m.If(self.enable):
            m.d.sync += [
                word.eq(Cat(C(0, padding), self.magnitude)), zeros.eq(leading_zeros.o), room.eq(exponent + top),
                negative.eq(self.negative), nan.eq(self.nan), inf.eq(self.inf),
            ]

        # Stage 2: align, round. The increment carries from the mantissa into the exponent above it.
        distance = Signal(range(self._width + 1))
        stored = Signal(range(max(largest_room, 0) + 2))
        aligned = Signal(width)
        m.d.comb += distance.eq(zeros)
        if top < self._width:                                   # else there always is enough
            with m.If(room < zeros):
                m.d.comb += distance.eq(room)
        m.d.comb += [aligned.eq(self._left(m, word, distance)), stored.eq(room - distance + aligned[-1])]
        if top < 0:
            m.submodules.right = right = StickyShift(width=width, amount_width=(width + 1).bit_length())
            amount = Signal(range(-top + 1))
            m.d.comb += [amount.eq(-room), right.i.eq(word), right.amount.eq(Mux(amount > width, width, amount))]
            with m.If(room < 0):
                m.d.comb += [aligned.eq(right.o), stored.eq(0)]
        self._round(m, aligned, stored, word == 0, negative, nan, inf)
        return m

    @staticmethod
    def _left(m: Module, word: Signal, distance: Signal) -> Value:
        width = len(word)
        for bit in reversed(range(len(distance))):
            places = min(1 << bit, width)
            stage = Signal(width, name=f"aligned_{1 << bit}")
            m.d.comb += stage.eq(Mux(distance[bit], Cat(C(0, places), word[:width - places]), word))
            word = stage
        return word

    def _round(self, m: Module, aligned: Signal, stored: Signal, zero: Value, negative: Signal, nan: Signal, inf: Signal) -> None:
        width = len(aligned)
        drop = max(0, width - _PRECISION)
        mantissa = Cat(C(0, max(0, _PRECISION - width)), aligned[drop:width - 1])
        rounded = Signal(_FMT.mantissa_bits + max(len(stored) + 1, _FMT.exponent_bits))
        result = Signal(self.o.shape(), reset_less=True)
        largest = self._lsb + self._width + (1 << self._exponent_width) - 1     # every value is below 2^largest
        m.d.comb += [rounded.eq(Cat(mantissa, stored) + round_increment(aligned, drop)), self.o.eq(result)]
        with m.If(self.enable):
            m.d.sync += [
                result.mantissa.eq(rounded[:_FMT.mantissa_bits]),
                result.exponent.eq(rounded[_FMT.mantissa_bits:]),
                result.sign.eq(negative),
            ]
            too_large = ~zero & (rounded[_FMT.mantissa_bits:] >= _FMT.exponent_max) if largest > _MAX_EXPONENT else C(0, 1)
            with m.If(zero):
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(0)]
            with m.If(inf | too_large):
                m.d.sync += [result.mantissa.eq(0), result.exponent.eq(_FMT.exponent_max)]
            with m.If(nan):
                m.d.sync += result.eq(quiet_nan(_FMT))
