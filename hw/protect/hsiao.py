"""Hsiao's code: corrects one wrong bit of a word, detects two."""

from functools import cache
from itertools import combinations
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["HsiaoDecoder", "HsiaoEncoder", "hsiao_check_bits", "hsiao_columns"]


@cache
def hsiao_columns(width: int) -> tuple[int, ...]:
    """Return the columns of the check matrix for `width` data bits: bit j of column i says that data bit i goes into check bit j.

    The columns are different and have an odd number of ones, 3 or more; those of check bits have a single one. So every single
    error has an odd syndrome of its own, every double error an even one that is not zero (M. Y. Hsiao, A class of optimal
    minimum odd-weight-column SEC-DED codes, IBM J. Res. Dev. 14(4), 1970). Light columns come first, and each next one is, of
    its weight, the one whose rows have the fewest ones so far, the smallest number if several do: few XORs, in rows that differ
    by two at most (by one for widths of 2^n), hence nearly as fast as can be.

    Raises
    ------
    ConfigError
        If `width` is not positive.
    """
    count = hsiao_check_bits(width)
    ones = [0] * count
    columns: list[int] = []
    for weight in range(3, count + 1, 2):
        left = sorted(sum(1 << row for row in rows) for rows in combinations(range(count), weight))
        while left and len(columns) < width:
            best = min(left, key=lambda column: sum(n for row, n in enumerate(ones) if column >> row & 1))
            left.remove(best)
            columns.append(best)
            ones = [n + (best >> row & 1) for row, n in enumerate(ones)]
    return tuple(columns)


def hsiao_check_bits(width: int) -> int:
    """Return the check bits that `width` data bits need: the least r with 2^(r−1) − r ≥ width.

    Raises
    ------
    ConfigError
        If `width` is not positive.
    """
    if width < 1:
        raise ConfigError(f"the width of a code word's data must be at least 1, not {width!r}")
    count = 3
    while (1 << (count - 1)) - count < width:
        count += 1
    return count


def _checks(data: Value, width: int) -> Value:
    """Return the check bits of `data`."""
    columns = hsiao_columns(width)
    masks = [sum(1 << i for i, column in enumerate(columns) if column >> row & 1) for row in range(hsiao_check_bits(width))]
    return Cat((data & mask).xor() for mask in masks)


class HsiaoEncoder(wiring.Component):
    """Makes the check bits of a word. Combinational: one XOR of about 3·width / r bits for each of the r check bits.

    The zero word has zero check bits, so a memory of zeros holds words of the code.

    Parameters
    ----------
    width : int
        Data bits, at least 1.

    Members
    -------
    data : In(width)
    check : Out(hsiao_check_bits(width))

    Raises
    ------
    ConfigError
        If `width` is not positive.
    """

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({"data": In(width), "check": Out(hsiao_check_bits(width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.check.eq(_checks(self.data, self.width))
        return m


class HsiaoDecoder(wiring.Component):
    """Corrects a word of the code. Combinational: the encoder's XORs, then one comparison for each bit.

    Parameters
    ----------
    width : int
        Data bits, at least 1.

    Members
    -------
    data : In(width), check : In(hsiao_check_bits(width))
        What was stored.
    data_out : Out(width), check_out : Out(hsiao_check_bits(width))
        The word of the code: with one wrong bit, that bit is put right, else what came in.
    corrected : Out(1)
        One bit was wrong.
    detected : Out(1)
        Two bits were wrong, or more: always for two; three are taken for one, unless the code is shortened and they are not.

    Raises
    ------
    ConfigError
        If `width` is not positive.
    """

    def __init__(self, *, width: int):
        self.width = width
        check = hsiao_check_bits(width)
        super().__init__({
            "data": In(width), "check": In(check), "data_out": Out(width), "check_out": Out(check), "corrected": Out(1),
            "detected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = len(self.check)
        syndrome = Signal(count)
        wrong = Signal(self.width + count)              # the bit at fault
        m.d.comb += [
            syndrome.eq(_checks(self.data, self.width) ^ self.check),
            wrong.eq(Cat(syndrome == column for column in (*hsiao_columns(self.width), *(1 << row for row in range(count))))),
            self.data_out.eq(self.data ^ wrong[:self.width]),
            self.check_out.eq(self.check ^ wrong[self.width:]),
            self.corrected.eq(wrong.any()),
            self.detected.eq(syndrome.any() & ~self.corrected),
        ]
        return m
