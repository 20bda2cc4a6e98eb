"""What every codec does: matrices of float32 ↔ the fields of packed blocks."""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hw.families import Format

__all__ = ["Codec", "Encoded", "FormatError", "Matrix", "check_finite", "refuse"]

Matrix = npt.NDArray[np.float32]
"""Rows × columns; columns are the reduction axis, along which blocks lie."""


class FormatError(ValueError):
    """Values that a format cannot take, or packed data that are not of it."""


def refuse(matrix: Matrix, where: npt.NDArray[np.bool_], rule: str) -> None:
    """Raise a FormatError that names the first place of `matrix` where `where` holds."""
    row, column = (int(i) for i in np.argwhere(where)[0])
    raise FormatError(f"values must be {rule}, not {matrix[row, column]} (row {row}, column {column})")


def check_finite(matrix: Matrix) -> None:
    """Refuse NaN and infinities.

    Raises
    ------
    FormatError
        If there is one; the text names row and column of the first.
    """
    finite = np.isfinite(matrix)
    if not finite.all():
        refuse(matrix, ~finite, "finite")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A matrix in a format, unpacked: one array for each field.

    Attributes
    ----------
    fields : dict of str to ndarray
        Field of the format's packed word → unsigned codes, uint8 where the field has up to 8 bits, else uint16 or uint32. Shape
        (rows, blocks, count); without blocks, (rows, columns, 1). Two's complement fields hold their low bits.
    side : dict of str to ndarray
        What `Format.side` names, in its own shape and type.
    """

    fields: dict[str, npt.NDArray[Any]]
    side: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


F = TypeVar("F", bound=Format, contravariant=True)


class Codec(Protocol[F]):
    """The codec of one family of formats.

    One that also has a true attribute `in_parts` can quantize the rows of a tensor some at a time (`sw.checkpoint.parts`);
    of others nobody knows what they keep for a tensor.
    """

    def quantize(self, fmt: F, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`.

        matrix: (rows, columns) float32, C-contiguous; columns is a multiple of the block (the caller pads with zeros).

        Raises
        ------
        FormatError
            If a value cannot be represented as the format's page says; the text names row and column of the first.
        """

    def dequantize(self, fmt: F, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32: the exact value of every code, rounded once to float32."""
