"""The order in which a PIM's MAC array adds: trees over lanes, accumulators in rotation, float32 rounded at every step.

Products are of formats narrow enough to be exact in float32.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["bcast_product", "pairwise_sum", "tree_product"]

Floats = npt.NDArray[np.float32]


def pairwise_sum(values: Floats) -> Floats:
    """Add along the last axis, neighbours first, then neighbours of those; what is missing to a power of two is +0."""
    missing = (1 << (values.shape[-1] - 1).bit_length()) - values.shape[-1]
    if missing:
        values = np.concatenate((values, np.zeros((*values.shape[:-1], missing), np.float32)), axis=-1)
    while values.shape[-1] > 1:
        values = values[..., 0::2] + values[..., 1::2]
    return values[..., 0]


def tree_product(weights: Floats, x: Floats, *, lanes: int, slots: int) -> Floats:
    """Return what TREE makes of whole rows of weights: lanes along K.

    `lanes` products are added in a tree; the b-th sum goes to accumulator b mod `slots`, each from +0; the accumulators are
    merged in a tree.

    weights: (N, K), x: (X, K) → (N, X), float32.
    """
    n, k = weights.shape
    beats = -(-k // lanes)
    padded_w, padded_x = (np.zeros((len(a), beats * lanes), np.float32) for a in (weights, x))
    padded_w[:, :k], padded_x[:, :k] = weights, x
    accumulators = np.zeros((n, len(x), slots), np.float32)
    for beat in range(beats):
        part = slice(beat * lanes, (beat + 1) * lanes)
        accumulators[:, :, beat % slots] += pairwise_sum(padded_w[:, None, part] * padded_x[None, :, part])
    return pairwise_sum(accumulators)


def bcast_product(weights: Floats, x: Floats, *, slots: int, segments: int = 1) -> Floats:
    """Return what BCAST makes: lanes along N, one element of x at a time, or one for each segment.

    Product k is of segment k mod `segments`, and its j-th if j = k div `segments`: it goes to accumulator j mod `slots` of its
    output, each from +0; a segment's accumulators are merged in a tree, then the segments.

    weights: (K, N), x: (X, K) → (X, N), float32.
    """
    accumulators = np.zeros((len(x), weights.shape[1], segments, slots), np.float32)
    for k in range(len(weights)):
        accumulators[:, :, k % segments, k // segments % slots] += x[:, k, None] * weights[k]
    return pairwise_sum(pairwise_sum(accumulators))
