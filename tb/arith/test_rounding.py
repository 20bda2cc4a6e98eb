# amaranth: UnusedElaboratable=no
"""Rounding: sticky shift and increment together are round-to-nearest-even of the exact quotient."""

from fractions import Fraction
from typing import Any

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.rounding import StickyShift, round_increment
from hw.errors import ConfigError
from tb.arith.combinational import evaluate


class RoundingShift(wiring.Component):
    """o = rne(i / 2**(amount + drop)): the two parts as blocks use them."""

    def __init__(self, *, width: int, amount_width: int, drop: int, signed: bool):
        self._shift = StickyShift(width=width, amount_width=amount_width, signed=signed)
        self._drop = drop
        shape = Shape(width, signed)
        super().__init__({"i": In(shape), "amount": In(amount_width), "o": Out(Shape(width + 1, signed))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.shift = shift = self._shift
        word = shift.o.as_signed() if self.i.shape().signed else shift.o
        m.d.comb += [
            shift.i.eq(self.i),
            shift.amount.eq(self.amount),
            self.o.eq((word >> self._drop) + round_increment(shift.o, self._drop)),
        ]
        return m


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("width", "amount_width", "drop"), [(7, 3, 2), (7, 4, 3), (4, 3, 2), (9, 2, 5), (3, 1, 2)])
def test_shift_and_increment_round_exactly(width, amount_width, drop, signed):
    dut = RoundingShift(width=width, amount_width=amount_width, drop=drop, signed=signed)
    lowest = -(1 << width - 1) if signed else 0
    ties = 0

    async def bench(ctx: Any) -> None:
        nonlocal ties
        for amount in range(1 << amount_width):
            ctx.set(dut.amount, amount)
            for word in range(lowest, lowest + (1 << width)):
                ctx.set(dut.i, word)
                quotient = Fraction(word, 1 << (amount + drop))
                ties += quotient.denominator == 2
                assert ctx.get(dut.o) == round(quotient), (word, amount)

    evaluate(dut, bench)
    assert ties > 0


class Increment(wiring.Component):
    """o = rne(i / 2**drop)."""

    def __init__(self, *, width: int, drop: int):
        self._drop = drop
        super().__init__({"i": In(width), "o": Out(width + 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.o.eq((self.i >> self._drop) + round_increment(self.i, self._drop))
        return m


@pytest.mark.parametrize("drop", range(6))
def test_increment_of_every_word(drop):
    dut = Increment(width=8, drop=drop)

    async def bench(ctx: Any) -> None:
        for word in range(256):
            ctx.set(dut.i, word)
            assert ctx.get(dut.o) == round(Fraction(word, 1 << drop)), word

    evaluate(dut, bench)


@pytest.mark.parametrize("field", ["width", "amount_width"])
def test_bad_width(field):
    with pytest.raises(ConfigError, match=rf"^StickyShift\.{field} must be at least 1, not 0$"):
        StickyShift(**{"width": 8, "amount_width": 3} | {field: 0})
