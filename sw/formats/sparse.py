"""Structured sparsity: N:M patterns and hierarchies of them (HSS), over int8."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import SparseFormat
from sw.formats.codec import Encoded, Matrix
from sw.formats.groups import compress, coordinates, expand, largest
from sw.formats.rows import dequantize_rows, quantize_rows

__all__ = ["SparseCodec", "keep_masks", "lanes"]


def keep_masks(fmt: SparseFormat, significance: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which blocks and which values a pattern keeps, bottom-up: exactly as many as the pattern says.

    First the `inner_keep` most significant values of every block; then, of the blocks thus thinned, the `outer_keep` whose sum of
    squares is largest, summed in float64 in order of place. Of equals, the first is kept.

    Parameters
    ----------
    fmt : SparseFormat
    significance : (rows, columns) of float or integer, none negative or NaN
        Magnitudes, or whatever else ranks values; columns a multiple of the block.

    Returns
    -------
    outer : (rows, columns / block, outer_of) bool
    inner : (rows, columns / block, outer_of, inner_of) bool
        Not yet thinned by `outer`.
    """
    blocks = significance.reshape(len(significance), -1, fmt.outer_of, fmt.inner_of)
    inner = largest(blocks, fmt.inner_keep)
    if fmt.outer_keep == fmt.outer_of:
        return np.ones(inner.shape[:-1], np.bool_), inner
    score = np.zeros(inner.shape[:-1])
    for place in range(fmt.inner_of):                       # an order that numpy's own sum does not promise
        kept = np.where(inner[..., place], blocks[..., place], 0).astype(np.float64)
        score += kept * kept
    return largest(score, fmt.outer_keep), inner


def lanes(fmt: SparseFormat, encoded: Encoded) -> npt.NDArray[np.int8]:
    """Return the integers that a record stands for: (rows, columns) int8.

    Raises
    ------
    FormatError
        If coordinates are out of their range or not strictly increasing.
    """
    fields = encoded.fields
    count, size = fields["values"].shape[:2]
    inner = fields["inner"].reshape(count, size, fmt.outer_keep, fmt.inner_keep)
    values = fields["values"].view(np.int8).reshape(inner.shape)
    blocks = expand(values, coordinates("inner", inner, fmt.inner_of), fmt.inner_of)
    if fmt.outer_bits:
        blocks = expand(blocks, coordinates("outer", fields["outer"], fmt.outer_of), fmt.outer_of)
    return blocks.reshape(count, -1)


class SparseCodec:
    """Codec of `SparseFormat`: what is kept is decided on the float values, before they are rounded to int8."""

    in_parts = True

    def quantize(self, fmt: SparseFormat, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`; see `Codec.quantize`."""
        q, scale = quantize_rows(matrix)
        outer, inner = keep_masks(fmt, np.abs(matrix))
        count, size = inner.shape[:2]
        fields: dict[str, npt.NDArray[Any]] = {}
        kept = None
        if fmt.outer_bits:
            kept = np.flatnonzero(outer)
            _, places = compress(outer, outer, fmt.outer_keep)
            fields["outer"] = places.reshape(count, size, -1)
            inner &= outer[..., None]
        values, places = compress(q, inner, fmt.inner_keep, kept)
        fields |= {"values": values.view(np.uint8).reshape(count, size, -1), "inner": places.reshape(count, size, -1)}
        return Encoded(fields=fields, side={"row_scale": scale})

    def dequantize(self, fmt: SparseFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32; see `Codec.dequantize`."""
        return dequantize_rows(lanes(fmt, encoded), encoded.side["row_scale"])
