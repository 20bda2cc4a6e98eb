"""Comparison, minimum and maximum of floating-point words."""

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat
from sw.golden.arith.floating import Words, decode, encode

__all__ = ["float_compare", "float_max", "float_min"]

Flags = npt.NDArray[np.bool_]


def float_compare(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *,
                  subnormals: bool = False) -> tuple[Flags, Flags, Flags, Flags]:
    """Return whether a is less than, equal to, greater than or unordered with b: shapes that broadcast → four of bool."""
    x, y = decode(fmt, a, subnormals=subnormals), decode(fmt, b, subnormals=subnormals)
    return x < y, x == y, x > y, np.isnan(x) | np.isnan(y)


def float_min(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *, subnormals: bool = False, number: bool = False) -> Words:
    """Return the lesser of words, −0 less than +0: NaN if one is NaN, with `number` only if both are; broadcasts → uint64."""
    return _choose(fmt, a, b, subnormals, number, 1.0)


def float_max(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *, subnormals: bool = False, number: bool = False) -> Words:
    """Return the greater of words, −0 less than +0: NaN if one is NaN, with `number` only if both are; broadcasts → uint64."""
    return _choose(fmt, a, b, subnormals, number, -1.0)


def _choose(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, subnormals: bool, number: bool, way: float) -> Words:
    x, y = way * decode(fmt, a, subnormals=subnormals), way * decode(fmt, b, subnormals=subnormals)
    lesser = np.where((x < y) | ((x == y) & np.signbit(x)), x, y)
    if number:
        lesser = np.where(np.isnan(x), y, np.where(np.isnan(y), x, lesser))
    else:
        lesser = np.where(np.isnan(x) | np.isnan(y), np.nan, lesser)
    return encode(fmt, way * lesser, subnormals=subnormals)
