"""Records of the structured-sparsity engine: weights and their coordinates ↔ the bytes that its loader reads.

A record is a tile: a step of K for C outputs, slot by slot, in each slot a byte of every output. Coordinates come first, four
bytes a group: cp1 as four nibbles, cp0 as eight pairs of bits, low ones first; then the 8 values of each group. Of SDQ a group is
two eights, and its coordinates are two nibbles each: places of the outliers, shift and 0, and twice the two places without
inlier.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.engines.hss import BLOCK, BLOCKS, GROUP, HssMode
from sw.sparsity.patterns import PatternError

__all__ = ["compress", "group_bytes", "sdq_group_bytes"]

Bytes = npt.NDArray[np.uint8]

_OUTLIERS, _INLIERS = [0, 2], [[1, 4, 5], [3, 6, 7]]        # values of a group in SDQ, and those of its two eights


def _kept(used: npt.NDArray[Any], keep: int, what: str) -> npt.NDArray[np.intp]:
    """Return `keep` increasing places (…, keep) of each (…, of) with all that are used, then the first unused ones."""
    count = used.sum(axis=-1)
    if count.size and count.max() > keep:
        row, *rest = (int(i) for i in np.argwhere(count > keep)[0])
        block = int(np.ravel_multi_index(rest, count.shape[1:]))
        raise PatternError(f"{what} must be at most {keep} of {used.shape[-1]}, not {int(count[(row, *rest)])} "
                           f"(row {row}, block {block})")
    return np.sort(np.argsort(~used, axis=-1, kind="stable")[..., :keep], axis=-1)


def compress(mode: HssMode, matrix: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return values (N, groups, 4, 2), cp1 (N, groups, 4) and cp0 (N, groups, 4, 2) of a matrix that keeps the mode's pattern.

    Parameters
    ----------
    mode : HssMode
    matrix : (N, K) int8
        K a multiple of the mode's group.

    Raises
    ------
    PatternError
        If it does not; row, block and how many there are are named.
    """
    blocks = matrix.reshape(len(matrix), -1, mode.h1, mode.h0)
    cp0 = _kept(blocks != 0, BLOCK, "values of a block that are not zero")
    cp1 = _kept(np.any(blocks != 0, axis=-1), BLOCKS, "blocks of a group that are not zero")
    cp0 = np.take_along_axis(cp0, cp1[..., None], axis=-2)
    kept = np.take_along_axis(blocks, cp1[..., None], axis=-2)
    return np.take_along_axis(kept, cp0, axis=-1), cp1, cp0


def _bytes(low: npt.NDArray[Any], high: npt.NDArray[Any]) -> Bytes:
    return (low | high << 4).astype(np.uint8)


def group_bytes(values: npt.NDArray[np.int8], cp1: npt.NDArray[Any], cp0: npt.NDArray[Any]) -> tuple[Bytes, Bytes]:
    """Return each group's coordinates (N, groups, 4) and values (N, groups, 8), from what `compress` gives."""
    pairs = cp0.reshape(*cp0.shape[:-2], 2, 4)
    places = (pairs << np.array([0, 2, 4, 6])).sum(axis=-1).astype(np.uint8)
    blocks = _bytes(cp1[..., ::2], cp1[..., 1::2])
    return np.concatenate([blocks, places], axis=-1), values.reshape(*values.shape[:-2], GROUP).view(np.uint8)


def sdq_group_bytes(outliers: npt.NDArray[np.int8], inliers: npt.NDArray[np.uint8],
                    shifts: npt.NDArray[Any]) -> tuple[Bytes, Bytes]:
    """Return coordinates (N, groups, 4) and values (N, groups, 8) of weights in SDQ.

    Parameters
    ----------
    outliers : (N, K) int8
        At most one of every 8 is not zero; K a multiple of 16.
    inliers : (N, K) uint8
        FP4 codes, at most six of every 8 not zero.
    shifts : (N, K / 16) integers
        The power of two of each 16 inliers.

    Raises
    ------
    PatternError
        If there are more.
    """
    eights = outliers.reshape(len(outliers), -1, 2, 8)
    place = _kept(eights != 0, 1, "outliers of an eight")
    codes = inliers.reshape(eights.shape)
    inner = _kept(codes & 7 != 0, 6, "inliers of an eight")
    empty = np.ones(eights.shape, np.bool_)
    np.put_along_axis(empty, inner, False, axis=-1)
    without = np.flatnonzero(empty).reshape(*eights.shape[:-1], 2) % 8
    coordinates = np.stack([_bytes(place[..., 0, 0], place[..., 1, 0]), shifts.astype(np.uint8),
                            *(_bytes(without[..., eight, 0], without[..., eight, 1]) for eight in range(2))], axis=-1)
    values = np.zeros((*eights.shape[:2], GROUP), np.uint8)
    values[..., _OUTLIERS] = np.take_along_axis(eights, place, axis=-1)[..., 0].view(np.uint8)
    chosen = np.take_along_axis(codes, inner, axis=-1)
    for eight, lanes in enumerate(_INLIERS):
        values[..., lanes] = _bytes(chosen[..., eight, ::2], chosen[..., eight, 1::2])
    return coordinates, values
