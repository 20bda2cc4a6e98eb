"""Rounding to nearest, ties to even: the increment, and the right shift that keeps what it needs."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["StickyShift", "at_most", "round_increment"]


def round_increment(value: Value, drop: int) -> Value:
    """Return the bit to add to ``value >> drop`` so that it is rounded to nearest, ties to even.

    Parameters
    ----------
    value : Value
        Unsigned.
    drop : int
        Low bits that go, less than the width of `value`; none gives a constant zero.
    """
    if drop == 0:
        return C(0, 1)
    odd, half, rest = value[drop], value[drop - 1], value[:drop - 1]
    return half & (odd | rest.any()) if drop > 1 else half & odd


def at_most(amount: Value, limit: int) -> Value:
    """Return the lesser of the two, unsigned: no comparison where `amount` cannot be more."""
    return amount if (1 << len(amount)) - 1 <= limit else Mux(amount > limit, limit, amount)[:limit.bit_length()]


class StickyShift(wiring.Component):
    """Right shift whose lowest bit also remembers every one that was shifted out.

    With two bits or more to drop afterwards, `round_increment` of the result rounds as if nothing had been lost: together they
    are the rounding shift ``rne(i / 2**(amount + drop))``. Combinational, one multiplexer level for each bit of `amount`.

    Parameters
    ----------
    width : int
        Bits of the input and of the output, at least 1.
    amount_width : int
        Bits of the shift amount, at least 1.
    signed : bool
        The input is two's complement, and so is the output: copies of its sign come in from above. Rounding is as without.

    Members
    -------
    i : In(width), amount : In(amount_width)
    o : Out(width)
        ``i >> amount``, its bit 0 ORed with the bits that fell out.

    Raises
    ------
    ConfigError
        If a width is not positive.
    """

    def __init__(self, *, width: int, amount_width: int, signed: bool = False):
        for name, value in (("width", width), ("amount_width", amount_width)):
            if value < 1:
                raise ConfigError(f"StickyShift.{name} must be at least 1, not {value!r}")
        self._width, self._signed = width, signed
        super().__init__({"i": In(width), "amount": In(amount_width), "o": Out(width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word: Value = self.i
        for bit, select in enumerate(self.amount):
            distance = min(1 << bit, self._width)
            lost = word[:distance].any()
            kept = Cat(word[distance:], self.i[-1].replicate(distance)) if self._signed else word[distance:]
            moved = Cat(kept[0] | lost, kept[1:]) if len(kept) else lost
            stage = Signal(self._width, name=f"shifted_{1 << bit}")
            m.d.comb += stage.eq(Mux(select, moved, word))
            word = stage
        m.d.comb += self.o.eq(word)
        return m
