"""A tensor that lies in a file, of which some rows can be read without the rest."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.families import Format
from sw.formats import QuantizedTensor

__all__ = ["DTYPES", "FLOATS", "PIECE", "CheckpointError", "StoredTensor"]

DTYPES: dict[str, npt.DTypeLike] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64,
    "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}
"""What safetensors calls a type → the type in numpy."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of weights that can be quantized. Eight-bit floats are left alone: their scales lie in other tensors."""

PIECE = 1 << 22
"""Bytes that are copied at a time."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or cannot be written as asked; the text names the file or the tensor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor in a file.

    A row is all of the last axis; a tensor without axes is one row of one value.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
        As safetensors, or GGUF, calls it.
    file : Path
    offset, nbytes : int
        Where the bytes lie in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int
    nbytes: int

    @property
    def size(self) -> int:
        """Values."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Values of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Rows."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.nbytes // max(1, self.rows)

    @property
    def is_float(self) -> bool:
        """Whether there are real numbers that can be quantized."""
        return self.dtype in FLOATS

    @property
    def needs_decoding(self) -> bool:
        """Whether the bytes mean nothing in a safetensors file."""
        return False

    @property
    def format(self) -> Format | None:
        """The number format that the tensor is already in, if we have it."""
        return None

    def raw(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of some rows, (rows, row_bytes).

        Raises
        ------
        CheckpointError
            If the file ends before them.
        """
        found = np.empty((stop - start, self.row_bytes), np.uint8)
        with self.file.open("rb") as file:
            file.seek(self.offset + start * self.row_bytes)
            if file.readinto(found.data) != found.nbytes:
                raise CheckpointError(f"{self.file} must hold all of {self.name}, but it ends before")
        return found

    def values(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the values of some rows, (rows, columns), in their own type."""
        return self.raw(start, stop).view(DTYPES[self.dtype])

    def quantized(self, start: int, stop: int) -> QuantizedTensor:
        """Return some rows in the number format that they are in."""
        raise CheckpointError(f"{self.name} must be in a number format, not {self.dtype}")

    def pieces(self) -> Iterator[bytes]:
        """Return all bytes, a piece at a time."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            left = self.nbytes
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise CheckpointError(f"{self.file} must hold all of {self.name}, but it ends before")
                left -= len(piece)
                yield piece
