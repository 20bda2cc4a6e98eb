"""What structured sparsity is made of: the largest of every group, as masks, and as coordinates with values."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sw.formats.codec import FormatError

__all__ = ["compress", "coordinates", "expand", "largest", "ranks"]

_CHUNK = 1 << 17            # values ranked at a time: what a core's cache holds
_PAIRWISE = 32              # largest group whose pairs are compared; beyond, sorting is faster


def ranks(magnitude: npt.NDArray[Any]) -> npt.NDArray[np.unsignedinteger]:
    """Return how many values of its group go before each value: 0 is the largest, of equals the first.

    magnitude: (..., group), no NaN → (..., group) of the least unsigned type that holds the group's size.
    """
    of = magnitude.shape[-1]
    dtype = np.min_scalar_type(of)
    groups = magnitude.reshape(-1, of)
    found = np.empty(groups.shape, dtype)
    if of > _PAIRWISE:
        order = np.argsort(groups[:, ::-1], axis=-1, kind="stable")[:, ::-1]        # reversed twice: of equals, the first leads
        np.put_along_axis(found, of - 1 - order, np.arange(of, dtype=dtype)[None], axis=-1)
        return found.reshape(magnitude.shape)
    step = max(1, _CHUNK // of)
    for low in range(0, len(groups), step):
        columns = np.ascontiguousarray(groups[low:low + step].T)
        before = np.zeros(columns.shape, dtype)
        for i in range(of - 1):
            larger = columns[i + 1:] > columns[i]
            before[i] += np.add.reduce(larger, axis=0, dtype=dtype)
            before[i + 1:] += ~larger
        found[low:low + step] = before.T
    return found.reshape(magnitude.shape)


def largest(magnitude: npt.NDArray[Any], keep: int) -> npt.NDArray[np.bool_]:
    """Return which values are among the `keep` largest of their group, of equals the first: exactly so many in each."""
    if keep == magnitude.shape[-1]:
        return np.ones(magnitude.shape, np.bool_)
    return ranks(magnitude) < keep


def compress(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_], keep: int,
             groups: npt.NDArray[np.intp] | None = None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the values that `mask` keeps and their places in the group, both (groups, keep), in order of place.

    values, mask: (..., group); mask keeps `keep` of every group, or of those that `groups` lists in order, and no others.
    """
    of = mask.shape[-1]
    kept = np.flatnonzero(mask).reshape(-1, keep)
    which = np.arange(len(kept)) if groups is None else groups
    return np.take(values, kept), (kept - which[:, None] * of).astype(np.min_scalar_type(of - 1))


def expand(values: npt.NDArray[Any], places: npt.NDArray[Any], of: int) -> npt.NDArray[Any]:
    """Return what `compress` was given, zero where the mask was not set.

    values: (..., keep, *rest), places: (..., keep), distinct in a group and below `of` → (..., of, *rest).
    """
    keep = places.shape[-1]
    rest = values.shape[places.ndim:]
    groups = places.reshape(-1, keep)
    found = np.zeros((len(groups) * of, *rest), values.dtype)
    found[groups + (np.arange(len(groups)) * of)[:, None]] = values.reshape(len(groups), keep, *rest)
    return found.reshape(*places.shape[:-1], of, *rest)


def coordinates(name: str, places: npt.NDArray[Any], of: int) -> npt.NDArray[Any]:
    """Return `places` (rows, blocks, ..., keep) after checking that a decoder may take them.

    Raises
    ------
    FormatError
        If a place is not below `of`, or does not lie after the one before it; the text names row and block of the first.
    """
    bad = places >= of
    bad[..., 1:] |= places[..., 1:] <= places[..., :-1]
    if bad.any():
        row, block, *_ = where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise FormatError(f"{name} must be strictly increasing and below {of} in a group, "
                          f"not {places[where[:-1]].tolist()} (row {row}, block {block})")
    return places
