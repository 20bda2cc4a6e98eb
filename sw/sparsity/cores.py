"""Cycles of sparse cores as laws: what a core without bubbles takes for given patterns or given zeros, fill and drain apart.

M tokens (columns of activations in the sources), K reduction, N outputs.
"""

from math import ceil

import numpy as np
import numpy.typing as npt

from sw.sparsity.density import binomial, expected_chunks

__all__ = [
    "DSTC_LANES", "DSTC_TILE", "dense_cycles", "dstc_cycles", "dstc_relative", "eyeriss_pe_cycles", "flexible_cycles",
    "hss_cycles", "scnn_pe_cycles", "uniform_pe_cycles",
]

Mask = npt.NDArray[np.bool_]

DSTC_LANES = (8, 16)
"""Multipliers of the dual-side sparse tensor core: rows of one operand × columns of the other."""
DSTC_TILE = 32
"""Rows and columns of its output tile."""


def eyeriss_pe_cycles(weights: Mask, activations: Mask) -> int:
    """Return the cycles of one Eyeriss-v2 PE for a 1×1 convolution: Σ over channels of nnzW(c) · nnzA(c).

    One MAC a cycle; every non-zero activation meets every non-zero weight of its channel, and nothing else takes time.
    weights: (outputs, channels) bool; activations: (tokens, channels) bool.
    Source: Chen et al., Eyeriss v2, JETCAS 2019; the law meets the published cycles of Sparseloop's Fig. 12 (grade: derived).
    """
    _same("channels", weights.shape[1], activations.shape[1])
    return int(np.count_nonzero(weights, axis=0).astype(np.int64) @ np.count_nonzero(activations, axis=0).astype(np.int64))


def uniform_pe_cycles(outputs: int, channels: int, tokens: int, weight_density: float, activation_density: float) -> float:
    """Return what `eyeriss_pe_cycles` is expected to be if zeros of both operands lie anywhere, independent of each other."""
    return outputs * channels * tokens * weight_density * activation_density


def scnn_pe_cycles(weights: Mask, activations: Mask, width: int = 4) -> int:
    """Return the cycles of an SCNN-like PE of width × width multipliers: Σ over channels of ⌈nnzW/width⌉ · ⌈nnzA/width⌉.

    Shapes as for `eyeriss_pe_cycles`. Source: Parashar et al., SCNN, ISCA 2017 (grade of the law: inferred).
    """
    _same("channels", weights.shape[1], activations.shape[1])
    chunks = (-(-np.count_nonzero(mask, axis=0) // width) for mask in (weights, activations))
    return int(np.multiply(*chunks).sum())


def dstc_cycles(left: Mask, right: Mask) -> int:
    """Return the cycles of a dual-side sparse tensor core: per k and 32×32 output tile, ⌈nnz(left)/8⌉ · ⌈nnz(right)/16⌉.

    Zeros of both operands are left out of their 32 and the rest is packed into lanes. left: (rows, K) bool, right: (K, columns)
    bool; what does not fill a tile counts as zero. Source: Wang et al., DSTC, ISCA 2021; lanes and tile as in Sparseloop's
    artifact.
    """
    _same("K", left.shape[1], right.shape[0])
    chunks = []
    for mask, lanes in zip((left.T, right), DSTC_LANES, strict=True):       # (K, rows), (K, columns)
        padded = np.pad(mask, ((0, 0), (0, -mask.shape[1] % DSTC_TILE)))
        counts = np.count_nonzero(padded.reshape(len(padded), -1, DSTC_TILE), axis=-1)
        chunks.append((-(-counts // lanes)).sum(axis=1))                    # over the tiles, for each k
    return int(chunks[0] @ chunks[1])


def dstc_relative(left_density: float, right_density: float) -> float:
    """Return the expected cycles of a dual-side sparse tensor core over its dense ones, zeros anywhere and independent."""
    found = 1.0
    for density, lanes in zip((left_density, right_density), DSTC_LANES, strict=True):
        found *= expected_chunks(binomial(DSTC_TILE, density), lanes) / ceil(DSTC_TILE / lanes)
    return found


def dense_cycles(m: int, n: int, k: int, *, rows: int = 64, lanes: int = 16) -> int:
    """Return the cycles of a tensor core: ⌈N/rows⌉ · ⌈K/lanes⌉ · M; weights stay, a column of activations passes each cycle."""
    return ceil(n / rows) * ceil(k / lanes) * m


def flexible_cycles(m: int, n: int, k: int, keep: int, of: int, *, rows: int = 64, lanes: int = 16) -> int:
    """Return the cycles of a structured tensor core whose weights have `keep` values in every `of`.

    The lanes of a row hold keep values for each group, so ⌊lanes / keep⌋ groups at a time; zeros within a pattern gain nothing.
    2:4 is NVIDIA's; Sparseloop's flexible core takes 2:4, 2:6 and 2:8.
    """
    if not 1 <= keep <= of or keep > lanes:
        raise ValueError(f"the pattern must keep between 1 and its group, and at most {lanes} (lanes), not {keep}:{of}")
    return ceil(n / rows) * ceil(k / (lanes // keep * of)) * m


def hss_cycles(m: int, n: int, k: int, outer_of: int, inner_of: int, *, rows: int = 64, pairs: int = 2) -> int:
    """Return the cycles of HighLight's core for 4:outer_of blocks of 2:inner_of values: ⌈N/rows⌉ · ⌈K/(pairs·H1·H0)⌉ · M.

    `pairs` groups of 8 values stand side by side in a row: 1024 MACs with the defaults. The dense mode is 4:4, 2:2.
    Source: Wu et al., HighLight, MICRO 2023 (structure found, formula inferred).
    """
    if outer_of < 4 or inner_of < 2:
        raise ValueError(f"outer_of must be at least 4 and inner_of at least 2, not {outer_of} and {inner_of}")
    return ceil(n / rows) * ceil(k / (pairs * outer_of * inner_of)) * m


def _same(what: str, one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"both operands must have the same {what}, not {one} and {other}")
