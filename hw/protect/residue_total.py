"""The residue of a sum of many words, a few of them a cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.protect.residue import digits, groups, residue_sum, sign_correction, signless

__all__ = ["ResidueTotal", "total_latency"]

FAN_IN = 8
"""Digits that are added in a cycle: three carry-save adders and one with a carry, less than a PE does in its cycle."""


def total_latency(words: int, width: int, bits: int) -> int:
    """Return the latency of a `ResidueTotal`, in cycles."""
    left, latency = words * ceil_div(width, bits), 1
    while left > FAN_IN:
        left, latency = ceil_div(left, FAN_IN), latency + 1
    return latency


class ResidueTotal(wiring.Component):
    """The sum of signed words modulo 2^bits − 1; zero may come out as all ones.

    Latency: ⌈log₈(words·⌈width / bits⌉)⌉ cycles, at least 1; initiation interval 1.

    Parameters
    ----------
    words, width : int
        Number of words, and bits of each, two's complement.
    bits : int
        b of the modulus 2^b − 1.

    Members
    -------
    i : In(words·width)
        Word 0 in the lowest bits.
    o : Out(bits)

    Raises
    ------
    ConfigError
        If a parameter is not positive.
    """

    def __init__(self, *, words: int, width: int, bits: int):
        for name, value in (("words", words), ("width", width), ("bits", bits)):
            if value < 1:
                raise ConfigError(f"ResidueTotal.{name} must be at least 1, not {value!r}")
        self.words = words
        self.width = width
        self.bits = bits
        self.latency = total_latency(words, width, bits)
        super().__init__({"i": In(words * width), "o": Out(bits)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = [signless(self.i.word_select(index, self.width)) for index in range(self.words)]
        left = [digit for word in words for digit in digits(word, self.bits)]
        for stage in range(self.latency):
            if stage == self.latency - 1:
                left = [*left, sign_correction(self.width, self.words, self.bits)]
            sums = groups(left, FAN_IN + 1 if stage == self.latency - 1 else FAN_IN)
            left = []
            for index, group in enumerate(sums):
                total = Signal(self.bits, name=f"sum_{stage}_{index}", reset_less=True)
                m.d.sync += total.eq(residue_sum(m, group, self.bits))
                left.append(total)
        m.d.comb += self.o.eq(left[0])
        return m
