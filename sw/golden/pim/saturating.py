"""The order in which a PIM's MAC array adds integers: as with floats, but every addition is clipped to 32 bits."""

import numpy as np
import numpy.typing as npt

__all__ = ["saturating_add", "saturating_bcast", "saturating_sum", "saturating_tree"]

Integers = npt.NDArray[np.int64]
_LIMIT = 1 << 31


def saturating_add(a: Integers, b: Integers) -> Integers:
    """Return a + b, clipped."""
    return np.clip(a + b, -_LIMIT, _LIMIT - 1)


def saturating_sum(values: Integers) -> Integers:
    """Add along the last axis, a power of two of values: neighbours first, then neighbours of those."""
    while values.shape[-1] > 1:
        values = saturating_add(values[..., 0::2], values[..., 1::2])
    return values[..., 0]


def saturating_tree(weights: Integers, x: Integers, *, lanes: int, slots: int) -> Integers:
    """Return what TREE makes of whole rows of weights.

    `lanes` products are added in a tree; the b-th sum goes to accumulator b mod `slots`; the accumulators are merged in a tree.

    weights: (N, K), x: (X, K) → (N, X); K is a multiple of `lanes`, and every product fits 32 bits.
    """
    n, k = weights.shape
    accumulators = np.zeros((n, len(x), slots), np.int64)
    for beat in range(k // lanes):
        part = slice(beat * lanes, (beat + 1) * lanes)
        total = saturating_sum(weights[:, None, part] * x[None, :, part])
        accumulators[:, :, beat % slots] = saturating_add(accumulators[:, :, beat % slots], total)
    return saturating_sum(accumulators)


def saturating_bcast(weights: Integers, x: Integers, *, slots: int, segments: int = 1) -> Integers:
    """Return what BCAST makes: product k goes to accumulator k div `segments` mod `slots` of segment k mod `segments`.

    weights: (K, N), x: (X, K) → (X, N).
    """
    accumulators = np.zeros((len(x), weights.shape[1], segments, slots), np.int64)
    for k, row in enumerate(weights):
        place = accumulators[:, :, k % segments, k // segments % slots]
        place[...] = saturating_add(place, x[:, k, None] * row)
    return saturating_sum(saturating_sum(accumulators))
