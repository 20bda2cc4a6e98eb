"""Matrices of float32 ↔ int8 with one float32 scale a row: what formats that thin out int8 start from."""

import numpy as np
import numpy.typing as npt

from sw.formats.codec import FormatError, Matrix
from sw.formats.scaled_scales import positive

__all__ = ["check_finite", "dequantize_rows", "quantize_rows"]


def check_finite(matrix: Matrix) -> None:
    """Refuse NaN and infinities.

    Raises
    ------
    FormatError
        If there is one; the text names row and column of the first.
    """
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise FormatError(f"values must be finite, not {matrix[row, column]} (row {row}, column {column})")


def quantize_rows(matrix: Matrix) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 and the scale of each row: (rows, columns), all finite → (rows, columns) int8, (rows,) float32.

    scale = largest magnitude / 127, q = value / scale, both in float32, q to the nearest integer, ties to even, within ±127.
    The scale of a row of zeros is 1; of other rows it is at least the least float32.
    """
    peak = np.maximum(matrix.max(axis=1), -matrix.min(axis=1))
    scale = positive(peak / np.float32(127), peak > 0)
    q = matrix / scale[:, None]
    np.rint(q, out=q)
    np.clip(q, -127, 127, out=q)                            # only a subnormal scale is coarse enough to need it
    return q.astype(np.int8), scale


def dequantize_rows(q: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> Matrix:
    """Return q · scale, (rows, columns) float32, rounded once."""
    return q * scale[:, None]
