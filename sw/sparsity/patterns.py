"""Declared patterns: how dense they are, and tensors that break them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import Format, OutlierFormat, SeriesFormat, SparseFormat
from sw.formats.codec import FormatError
from sw.formats.groups import largest
from sw.formats.sparse import keep_masks

__all__ = ["PatternError", "check_pattern", "density", "pruned"]


class PatternError(FormatError):
    """A tensor has more values that are not zero than its declared pattern allows."""


def density(fmt: Format) -> float:
    """Return the largest share of values that are not zero; 1 for formats that are not sparse."""
    if isinstance(fmt, SparseFormat):
        return fmt.outer_keep * fmt.inner_keep / fmt.block
    if isinstance(fmt, SeriesFormat):
        return min(1.0, sum(keep / of for keep, of in fmt.terms))
    if isinstance(fmt, OutlierFormat):
        return (fmt.outliers + fmt.inliers) / fmt.group
    return 1.0


def pruned(fmt: SparseFormat, matrix: npt.NDArray[np.float32],
           significance: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float32]:
    """Return `matrix` with what its pattern does not keep set to zero, not rounded.

    Bottom-up by `sw.formats.sparse.keep_masks`. K that is no multiple of the block is padded with zeros for the choice.

    matrix, significance: (rows, columns); significance ranks values, by default their magnitudes.
    """
    ranked = np.abs(matrix) if significance is None else significance
    outer, inner = keep_masks(fmt, np.pad(ranked, ((0, 0), (0, -matrix.shape[1] % fmt.block))))
    kept = (inner & outer[..., None]).reshape(len(matrix), -1)[:, :matrix.shape[1]]
    return np.where(kept, matrix, np.float32(0))


def check_pattern(fmt: Format, matrix: npt.NDArray[Any], *, first_row: int = 0) -> None:
    """Refuse a matrix that has more values that are not zero than the pattern of `fmt` allows, somewhere.

    A last block that the columns do not fill counts as padded with zeros. A series of terms is checked against what its greedy
    extraction leaves over.

    Parameters
    ----------
    fmt : Format
        Sparse or a series or with outliers; of others every matrix is.
    matrix : (rows, columns) ndarray of numbers
    first_row : int
        What the first row is called, where `matrix` is part of a tensor.

    Raises
    ------
    PatternError
        At the first block that breaks the pattern: the text names row, block and count.
    """
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % max(1, fmt.block))))
    filled = padded != 0
    if isinstance(fmt, SparseFormat):
        _check_groups(fmt, filled.reshape(len(filled), -1, fmt.outer_of, fmt.inner_of), fmt.inner_keep, fmt.outer_keep, first_row)
    elif isinstance(fmt, OutlierFormat):
        groups = filled.reshape(len(filled), -1, fmt.block // fmt.group, fmt.group)
        _check_groups(fmt, groups, fmt.outliers + fmt.inliers, groups.shape[2], first_row)
    elif isinstance(fmt, SeriesFormat):
        _check_series(fmt, np.abs(padded), first_row)


def _check_groups(fmt: Format, filled: npt.NDArray[np.bool_], values: int, groups: int, first_row: int) -> None:
    """Refuse blocks (rows, blocks, groups, values of a group) of which more groups or values are filled than may be."""
    counts = np.count_nonzero(filled, axis=-1)
    taken = np.count_nonzero(counts, axis=-1)
    crowded = counts > values
    bad = crowded.any(axis=-1) | (taken > groups)
    if not bad.any():
        return
    row, block = (int(i) for i in np.argwhere(bad)[0])
    where = f"row {first_row + row}, block {block}"
    if crowded[row, block].any():
        group = int(np.argmax(crowded[row, block]))
        raise PatternError(f"at most {values} of {filled.shape[3]} values must be other than zero for {fmt.name}, "
                           f"not {counts[row, block, group]} ({where}, group {group})")
    raise PatternError(f"at most {groups} of {filled.shape[2]} groups of {filled.shape[3]} must be other than zero "
                       f"for {fmt.name}, not {taken[row, block]} ({where})")


def _check_series(fmt: SeriesFormat, magnitude: npt.NDArray[Any], first_row: int) -> None:
    """Take out the terms, and refuse what is left over."""
    left = magnitude.copy()
    for keep, of in fmt.terms:
        groups = left.reshape(len(left), -1, of)
        groups[largest(groups, keep)] = 0
    over = np.count_nonzero(_in_blocks(left, fmt.block), axis=-1)
    if over.any():
        row, block = (int(i) for i in np.argwhere(over)[0])
        held = np.count_nonzero(_in_blocks(magnitude, fmt.block)[row, block])
        raise PatternError(f"the terms of {fmt.name} must take every value other than zero, "
                           f"not {held - over[row, block]} of {held} (row {first_row + row}, block {block})")


def _in_blocks(padded: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    return padded.reshape(len(padded), -1, block)
