"""Weight precisions of the BitMoD engine: how many bit-serial terms each takes, and what the terms are worth."""

from enum import IntEnum

from amaranth import *
from amaranth.lib import data

__all__ = ["LANES", "PRECISIONS", "SIGNIFICANCES", "WeightPrecision", "term_layout", "term_significance", "terms_less_one"]

LANES = 4
"""Weights that a PE multiplies at once."""


class WeightPrecision(IntEnum):
    """What a weight code is: two's complement of some bits, E2M1 with a special value, or E2M0 with one."""

    INT8 = 0
    INT6 = 1
    INT5 = 2
    INT4 = 3
    INT3 = 4
    FP4 = 5
    FP3 = 6


PRECISIONS = {precision.name.lower(): precision for precision in WeightPrecision}
"""Name → precision."""

SIGNIFICANCES: dict[WeightPrecision, tuple[int, ...]] = {
    WeightPrecision.INT8: (6, 4, 2, 0),
    WeightPrecision.INT6: (4, 2, 0),
    WeightPrecision.INT5: (4, 2, 0),
    WeightPrecision.INT4: (2, 0),
    WeightPrecision.INT3: (2, 0),
    WeightPrecision.FP4: (1, 0),
    WeightPrecision.FP3: (1, 0),
}
"""log2 of what each term of a weight is worth, the largest first: `bsig` of the paper. Of floats in units of one half."""

term_layout = data.StructLayout({"man": 1, "exp": 2, "sign": 1})
"""One term: (−1)^sign · man · 2^exp · 2^significance."""


def term_significance(precision: Value, index: Value) -> Value:
    """Return log2 of what term `index` (0: the first, which is worth most) of a weight is worth, 3 bits; a table."""
    rows = [worth + (0,) * (4 - len(worth)) for worth in _listed()]
    return Array(C(value, 3) for row in rows for value in row)[Cat(index, precision)]


def terms_less_one(precision: Value) -> Value:
    """Return the index of the last term of a weight, 2 bits."""
    return Array(C(len(worth) - 1, 2) for worth in _listed())[precision]


def _listed() -> list[tuple[int, ...]]:
    """Return the significances in order of the precisions' numbers; the last stands for the number that there is not."""
    found = [SIGNIFICANCES[kind] for kind in WeightPrecision]
    return [*found, found[-1]]
