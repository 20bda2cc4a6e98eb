"""Clustered codes: each vector brought to [−1, 1] without its extremes, and coded by a table fitted to the tensor."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import ClusteredFormat
from sw.formats.codec import Encoded, FormatError, Matrix
from sw.formats.kmeans import fit_table
from sw.formats.rows import check_finite

__all__ = ["ClusteredCodec"]

_LARGEST = 65504.0                                          # of float16
_SLAB = 1 << 20                                             # values that one step works on, so that its arrays stay in the cache

Blocks = npt.NDArray[np.float32]


class ClusteredCodec:
    """The codec of clustered formats (KVQuant's nuq with outliers).

    A vector is a block: of n values, the t = ⌈fraction / 2 · n⌉ largest and the t smallest are outliers, kept as float16 with
    their places (of equal values, those at the lowest places). The other values lie between limits low and high. Then

    * middle = (low + high) / 2, to the nearest float16; half_range = the larger distance of the limits from it, rounded up to
      float16, so that x̂ = (x − middle) / half_range is within ±1;
    * the table has 2^bits float16 levels for the whole tensor, fitted to all x̂ (`sw.formats.kmeans`); a block whose half_range
      is 0 takes no part, as its codes do not matter;
    * the code of x is the level nearest to x̂, which is computed in float64; of two, the lower one.

    value = level · half_range + middle, in float32: the product is exact there and only the sum is rounded.

    Blocks lie along the axis that is quantized: for V per token that is the axis of the channels, for K per channel (before RoPE)
    the axis of the tokens.

    Differences from KVQuant: every block has exactly 2 t outliers in slots of its packed word, so that blocks have one size and
    hardware needs no pointers, where the paper keeps them in a sparse matrix, and takes thresholds of K from calibration. The
    table is fitted to the tensor itself unless `quantize` is given one, for example one that `fit_table` made from calibration
    data with Fisher information as weights. There is no Q-Norm, and no tokens are left in float16.
    """

    in_parts = True

    def quantize(self, fmt: ClusteredFormat, matrix: Matrix, *, table: npt.NDArray[np.float16] | None = None) -> Encoded:
        """Return `matrix` in `fmt`: (rows, columns) float32, columns a multiple of the block.

        Parameters
        ----------
        table : (2^bits,) float16, or None
            Levels to use, increasing; None: fitted to `matrix`.

        Raises
        ------
        FormatError
            If a value is not finite or not within ±65504, or `table` is not such a table.
        """
        check_finite(matrix)
        _check_range(matrix)
        if table is not None:
            _check_table(fmt, table)
            if np.any(np.diff(table) < 0):
                raise FormatError("table must be increasing")
        rows, columns = matrix.shape
        blocks = matrix.reshape(-1, fmt.block)
        step = max(1, _SLAB // fmt.block)
        slabs = [slice(start, start + step) for start in range(0, len(blocks), step)]
        positions = np.concatenate([_outliers(blocks[slab], fmt.tail) for slab in slabs])
        limits = [_limits(blocks[slab], positions[slab]) for slab in slabs]
        half_range, middle = (np.concatenate([pair[i] for pair in limits]) for i in range(2))
        if table is None:
            table = _fitted(fmt, blocks, positions, half_range, middle)
        edges = (table[1:].astype(np.float64) + table[:-1]) / 2
        first = np.searchsorted(table, table).astype(np.uint8)  # of equal levels, the lowest code
        codes = np.empty(blocks.shape, np.uint8)
        for slab in slabs:
            codes[slab] = first[np.searchsorted(edges, _normalized(blocks[slab], half_range[slab], middle[slab]))]
        shape = (rows, columns // fmt.block, -1)
        fields: dict[str, npt.NDArray[Any]] = {
            "codes": codes, "half_range": half_range.view(np.uint16), "middle": middle.view(np.uint16)}
        if fmt.tail:
            fields["outlier_position"] = positions.astype(np.uint8 if fmt.block <= 256 else np.uint16)
            fields["outlier_value"] = np.take_along_axis(blocks, positions, 1).astype(np.float16).view(np.uint16)
        return Encoded(fields={name: field.reshape(shape) for name, field in fields.items()}, side={"table": table})

    def dequantize(self, fmt: ClusteredFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32: level · half_range + middle, rounded once; outliers as they are.

        Raises
        ------
        FormatError
            If the table is not of `fmt`, or an outlier lies outside its block.
        """
        table, fields = encoded.side["table"], encoded.fields
        _check_table(fmt, table)
        values = table.astype(np.float32)[fields["codes"]]
        with np.errstate(invalid="ignore"):                     # Inf · 0 and Inf − Inf, which no encoder writes
            values *= fields["half_range"].view(np.float16).astype(np.float32)
            values += fields["middle"].view(np.float16).astype(np.float32)
        if fmt.tail:
            positions = fields["outlier_position"]
            if positions.max() >= fmt.block:
                raise FormatError(f"outlier_position must be below {fmt.block}, not {positions.max()}")
            outliers = fields["outlier_value"].view(np.float16).astype(np.float32)
            np.put_along_axis(values, positions.astype(np.int64), outliers, axis=2)
        return values.reshape(len(values), -1)


def _check_range(matrix: Matrix) -> None:
    beyond = np.abs(matrix) > _LARGEST
    if beyond.any():
        row, column = (int(i) for i in np.argwhere(beyond)[0])
        raise FormatError(f"values must be within ±65504, not {matrix[row, column]} (row {row}, column {column})")


def _check_table(fmt: ClusteredFormat, table: npt.NDArray[np.float16]) -> None:
    if table.dtype != np.float16 or table.shape != (1 << fmt.code_bits,):
        raise FormatError(f"table must be {1 << fmt.code_bits} float16 levels, not {table.dtype} of shape {table.shape}")
    if not np.isfinite(table).all():
        raise FormatError(f"levels of the table must be finite, not {table[~np.isfinite(table)][0]}")


def _largest(blocks: Blocks, count: int) -> npt.NDArray[np.bool_]:
    """Return where the `count` largest values of each block are; of equal ones, those at the lowest places."""
    threshold = np.partition(blocks, blocks.shape[1] - count, axis=1)[:, blocks.shape[1] - count, None]
    chosen = blocks > threshold
    equal = blocks == threshold
    missing = count - chosen.sum(axis=1, keepdims=True)
    chosen |= equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= missing)
    return chosen


def _outliers(blocks: Blocks, tail: int) -> npt.NDArray[np.int64]:
    """Return the places of the outliers of each block, increasing: (blocks, 2 · tail)."""
    if not tail:
        return np.empty((len(blocks), 0), np.int64)
    chosen = _largest(blocks, tail)
    chosen |= _largest(np.where(chosen, -np.inf, -blocks), tail)
    return np.nonzero(chosen)[1].reshape(len(blocks), 2 * tail)


def _limits(blocks: Blocks, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Return half_range and middle of each block without its outliers."""
    high, low = blocks.copy(), blocks.copy()
    np.put_along_axis(high, positions, -np.inf, axis=1)
    np.put_along_axis(low, positions, np.inf, axis=1)
    top, bottom = high.max(axis=1).astype(np.float64), low.min(axis=1).astype(np.float64)
    middle = ((top + bottom) / 2).astype(np.float16)
    distance = np.maximum(top - middle, middle - bottom)
    half_range = distance.astype(np.float16)
    short = half_range < distance
    half_range[short] = np.nextafter(half_range[short], np.float16(np.inf))
    return half_range, middle


def _normalized(blocks: Blocks, half_range: npt.NDArray[np.float16], middle: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Return (x − middle) / half_range, and x − middle where half_range is 0."""
    normalized = blocks - middle.astype(np.float64)[:, None]
    normalized /= np.where(half_range == 0, 1, half_range.astype(np.float64))[:, None]
    return normalized


def _fitted(fmt: ClusteredFormat, blocks: Blocks, positions: npt.NDArray[np.int64], half_range: npt.NDArray[np.float16],
            middle: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Return the table fitted to the values that are no outliers, of blocks that spread out at all."""
    used = np.flatnonzero(half_range)
    if not used.size:
        steps = 1 << fmt.code_bits
        return ((2 * np.arange(steps) + 1) / steps - 1).astype(np.float16)
    kept = np.ones((len(used), fmt.block), np.bool_)
    np.put_along_axis(kept, positions[used], False, axis=1)
    return fit_table(_normalized(blocks[used], half_range[used], middle[used])[kept], fmt.code_bits)
