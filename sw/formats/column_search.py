"""Zero-point shifting in numpy: which constant leaves the least error in a group, without trying every one on every weight."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Integers", "clip_int8", "drop_columns", "redundant_columns", "shift_constants"]

Integers = npt.NDArray[np.int16]
"""Weights are (block, groups): a group is a column, so that what is summed over it runs over whole rows."""


def clip_int8(values: Integers) -> Integers:
    """Return `values` within ±127."""
    return np.minimum(np.maximum(values, np.int16(-127)), np.int16(127))


def redundant_columns(low: Integers, high: Integers, most: int) -> Integers:
    """Return how many columns below the sign repeat it, at most 3 and `most`, for groups of values from `low` to `high`."""
    magnitude = np.maximum(high, ~low)                                  # the largest that stands below a sign
    found = np.zeros(magnitude.shape, np.int8)
    for limit in (64, 32, 16)[:most]:
        found += (magnitude < limit).view(np.int8)
    return found.astype(np.int16)


def _grid(dropped: Integers, redundant: Integers) -> tuple[Integers, Integers]:
    """Return the distance of the values that the stored columns represent, and the largest of them."""
    step = np.left_shift(np.int16(1), dropped)
    return step, np.right_shift(np.int16(128), redundant) - step


def drop_columns(values: Integers, pruned: int, redundant: Integers) -> Integers:
    """Return `values` (block, groups), within ±127, as what is stored of them: the nearest multiple of 2^dropped / 2^dropped.

    A tie goes towards zero, and nothing beyond the largest value that the stored columns represent.
    """
    dropped = pruned - redundant
    step, top = _grid(dropped, redundant)
    half = step >> 1
    towards_zero = (values > 0) & (half > 0)
    return np.minimum((values + half - towards_zero) & -step, top) >> dropped


def shift_constants(weights: Integers, pruned: int, constant_bits: int) -> Integers:
    """Return the constant of each group: of all, the first that leaves the least squared error.

    An error of rounding depends only on the low bits of weight + constant, as long as no weight is so large that it ends at the
    largest stored value or at −127. So the sums of squares of all constants come from counts of the weights' low bits. Where a
    weight does end there its error is no smaller, so that this is a lower bound, and only constants whose bound is good enough
    are tried on the weights themselves.

    weights: (block, groups) within ±127 → (groups,).
    """
    limit = 1 << (constant_bits - 1)
    constants = np.arange(-limit, limit, dtype=np.int16)
    low, high = weights.min(axis=0) + constants[:, None], weights.max(axis=0) + constants[:, None]
    redundant = redundant_columns(low, high, pruned)                    # the same as of what is clipped to ±127
    step, top = _grid(pruned - redundant, redundant)
    bound = _rounding_errors(weights, constants, redundant, pruned)
    exact = (high <= top + (step >> 1)) & (low >= -127)
    best = np.where(exact, bound, np.float32(np.inf)).min(axis=0)
    tried = np.flatnonzero(~exact & (bound <= best))                    # all constants of a group that has no exact one
    constant, group = np.divmod(tried, len(best))
    bound.flat[tried] = _errors(weights[:, group], constants[constant], pruned, redundant.flat[tried])
    return constants[bound.argmin(axis=0)]


def _rounding_errors(weights: Integers, constants: Integers, redundant: Integers, pruned: int) -> npt.NDArray[np.float32]:
    """Return Σ (distance of weight + constant from the nearest multiple of 2^dropped)², (constants, groups): exact integers."""
    low = (weights & ((1 << pruned) - 1)).astype(np.uint8)
    counts = np.stack([np.add.reduce((low == value).view(np.uint8), axis=0, dtype=np.uint8) for value in range(1 << pruned)])
    counts = counts.astype(np.float32)
    errors: Any = 0
    for count in range(min(3, pruned) + 1):
        period = 1 << (pruned - count)
        residues = np.arange(period)
        moved = (residues[:, None] + residues) % period                 # by constant, of weight
        squares = np.minimum(moved, period - moved).astype(np.float32) ** 2
        errors = np.where(redundant == count, (squares @ counts)[constants % period], errors)
        counts = counts[:period // 2] + counts[period // 2:]
    return errors


def _errors(weights: Integers, constants: Integers, pruned: int, redundant: Integers) -> npt.NDArray[np.float32]:
    """Return Σ (stored value − constant − weight)² of groups (block, groups), each with its constant: (groups,)."""
    stored = drop_columns(clip_int8(weights + constants), pruned, redundant)
    error = (stored << (pruned - redundant)) - constants - weights
    return np.square(error, dtype=np.float32).sum(axis=0)
