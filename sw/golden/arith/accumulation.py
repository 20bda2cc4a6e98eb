"""Running sums of floating-point words in a window of fixed point."""

import numpy as np
import numpy.typing as npt

from hw.elements import FP32, FloatFormat
from sw.golden.arith.floating import Words, decode, int_to_float, quiet_nan

__all__ = ["float_accumulate"]


def float_accumulate(fmt: FloatFormat, words: npt.ArrayLike, first: npt.ArrayLike, *, width: int, fraction_bits: int,
                     target: FloatFormat = FP32) -> Words:
    """Return the sum of the terms up to each one, from the last one that is `first`, in `target`.

    Each term is rounded to a multiple of 2^−fraction_bits; a sum that does not fit `width` bits of two's complement is infinite
    from then on. int64 holds every sum up to the one that does not fit.

    words, first: (n,), the first term being `first` → uint64 (n,).
    """
    values = decode(fmt, words, subnormals=True)
    start = np.asarray(first, dtype=bool)
    if not start[:1].all():
        raise ValueError("first must be true of the first term, not False")
    limit = 1 << (width - 1)
    nan, negative = np.isnan(values), np.signbit(values)
    terms = np.clip(np.rint(np.where(nan, 0.0, values) * 2.0**fraction_bits), -4.0 * limit, 4.0 * limit).astype(np.int64)
    group = np.cumsum(start) - 1
    begin = np.flatnonzero(start)

    def running(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return sums from the beginning of each group, modulo 2^64."""
        total = np.cumsum(steps)
        return total - (total - steps)[begin][group]

    sums = running(terms)
    outside = (sums < -limit) | (sums >= limit)
    infinite = running(outside.astype(np.int64)) > 0
    opening = infinite & ~np.concatenate([[False], infinite[:-1] & ~start[1:]])     # the terms that made their sum infinite
    opener = np.maximum.accumulate(np.where(opening, np.arange(len(terms)), 0))
    below = sums[opener] < 0
    undefined = running((nan | (infinite & ~opening & np.isinf(values) & (negative != below))).astype(np.int64)) > 0
    result = int_to_float(target, np.where(infinite, 0, sums), fraction_bits=fraction_bits)
    infinity = int_to_float(target, [-1, 1], fraction_bits=-512)
    return np.where(undefined, np.uint64(quiet_nan(target)), np.where(infinite, infinity[np.where(below, 0, 1)], result))
