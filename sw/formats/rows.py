"""Matrices of float32 ↔ int8 with one float32 scale a row: what formats that thin out int8 start from."""

import numpy as np
import numpy.typing as npt

from hw.families import ScaledFormat
from hw.formats import format_named
from sw.formats.codec import FormatError, Matrix, check_finite
from sw.formats.scaled import ScaledCodec

__all__ = ["check_finite", "dequantize_rows", "quantize_rows"]


def quantize_rows(matrix: Matrix) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 and the scale of each row: (rows, columns) → (rows, columns) int8, (rows,) float32.

    The format int8: scale = largest magnitude / 127, q = value / scale, both in float32, q to the nearest integer, ties to even,
    within ±127. The scale of a row of zeros is 1; of other rows it is at least the least float32.

    Raises
    ------
    FormatError
        If a value is not finite.
    """
    fmt = format_named("int8")
    assert isinstance(fmt, ScaledFormat)
    encoded = ScaledCodec().quantize(fmt, matrix)
    return encoded.fields["codes"][:, :, 0].view(np.int8), encoded.side["outer_scale"]


def dequantize_rows(q: npt.NDArray[np.int8] | npt.NDArray[np.int16], scale: npt.NDArray[np.float32]) -> Matrix:
    """Return q · scale, (rows, columns) float32, rounded once; what is beyond float32 is an infinity.

    Raises
    ------
    FormatError
        If `scale` is not one float32 a row.
    """
    if scale.shape != (len(q),) or scale.dtype != np.float32:
        raise FormatError(f"row_scale must be ({len(q)},) float32, not {scale.shape} {scale.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return q * scale[:, None]
