"""Tensors in a number format, and the way to and from float32."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import Format, ScaledFormat
from hw.formats import format_named
from sw.formats.codec import Encoded, FormatError, Matrix
from sw.formats.registry import codec_of
from sw.packing import pack_words, row_bytes, unpack_words

__all__ = ["QuantizedTensor", "dequantize", "quantize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizedTensor:
    """A tensor in a number format.

    Attributes
    ----------
    format : Format
    shape : tuple of int
        Of the tensor that was quantized.
    axis : int
        Axis along which blocks lie (the reduction axis), 0 or more.
    payload : (rows, bytes) uint8
        Packed blocks of each row; rows are the other axes, in C order.
    side : dict of str to ndarray
        What lies beside the blocks (`Format.side`).
    """

    format: Format
    shape: tuple[int, ...]
    axis: int
    payload: npt.NDArray[np.uint8]
    side: dict[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        """Check that payload and side arrays are of the format and shape."""
        expected = (math.prod(self.shape) // max(1, self.shape[self.axis]), row_bytes(self.format, self.columns))
        if self.payload.dtype != np.uint8 or self.payload.shape != expected:
            raise FormatError(f"payload of {self.format.name} of shape {self.shape} along axis {self.axis} must be "
                              f"{expected} uint8, not {self.payload.shape} {self.payload.dtype}")
        if set(self.side) != set(self.format.side):
            raise FormatError(f"side arrays of {self.format.name} must be {', '.join(self.format.side) or 'none'}, "
                              f"not {', '.join(self.side) or 'none'}")

    @property
    def nbytes(self) -> int:
        """Bytes of payload and side arrays."""
        return self.payload.nbytes + sum(array.nbytes for array in self.side.values())

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of a value of this tensor, padding, metadata and side arrays included."""
        return 8 * self.nbytes / math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Values of a row, padding to whole blocks included."""
        block = max(1, self.format.block)
        return -(-self.shape[self.axis] // block) * block

    @property
    def encoded(self) -> Encoded:
        """Fields of the packed blocks, each (rows, blocks, count)."""
        return Encoded(fields=unpack_words(self.format, self.payload, self.columns), side=self.side)


def _rows(array: npt.NDArray[Any], axis: int, block: int) -> Matrix:
    """Return `array` as rows along `axis`, padded with zeros to whole blocks."""
    moved = np.moveaxis(array, axis, -1)
    matrix = moved.reshape(-1, moved.shape[-1])
    padding = -matrix.shape[1] % max(1, block)
    if padding:
        matrix = np.pad(matrix, ((0, 0), (0, padding)))
    with np.errstate(over="ignore"):                    # of float64: infinity, which the codec takes or refuses
        return np.ascontiguousarray(matrix, np.float32)


def quantize(array: npt.ArrayLike, format: Format | str, *, axis: int = -1, amax: float | None = None) -> QuantizedTensor:
    """Return `array` in a number format.

    Parameters
    ----------
    array : array of float
        Any shape with at least one axis and one value; of a type that float32 holds exactly (float16, bfloat16, float32), or
        another of real numbers, float64 and integers, which is rounded to float32 first.
    format : Format or str
        A name that `hw.formats.format_named` reads.
    axis : int
        Axis along which blocks lie: the reduction axis. A last block that the axis does not fill is padded with zeros, which
        count as values of the block.
    amax : float or None
        Where `array` is some rows of a tensor: the largest magnitude of all of it, which decides the scale of the tensor in
        formats that have one (NVFP4, RaZeR). None: that of `array`.

    Raises
    ------
    ConfigError
        If there is no such format.
    TypeError
        If `array` is not of real numbers, `format` neither a name nor a format, or `axis` no integer.
    FormatError
        If `array` has no such axis or no value, or a value cannot be represented as the format's page says.
    """
    fmt = format_named(format) if isinstance(format, str) else format
    if not isinstance(fmt, Format):
        raise TypeError(f"format must be a name or a Format, not {format!r}")
    if not isinstance(axis, int | np.integer):
        raise TypeError(f"axis must be an integer, not {axis!r}")
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"array must be of real numbers, not {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise FormatError(f"array must have an axis and a value, not shape {array.shape}")
    if not -array.ndim <= axis < array.ndim:
        raise FormatError(f"axis must be between {-array.ndim} and {array.ndim - 1}, not {axis}")
    axis = int(axis) % array.ndim
    whole = {"amax": amax} if amax is not None and isinstance(fmt, ScaledFormat) and fmt.outer == "tensor" else {}
    encoded = codec_of(fmt).quantize(fmt, _rows(array, axis, fmt.block), **whole)
    return QuantizedTensor(format=fmt, shape=array.shape, axis=axis, payload=pack_words(fmt, encoded.fields), side=encoded.side)


def dequantize(tensor: QuantizedTensor) -> npt.NDArray[np.float32]:
    """Return the values of `tensor`, float32 of its shape: the exact value of every code, rounded once."""
    matrix = codec_of(tensor.format).dequantize(tensor.format, tensor.encoded)[:, :tensor.shape[tensor.axis]]
    rows = tuple(size for i, size in enumerate(tensor.shape) if i != tensor.axis)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(*rows, -1), -1, tensor.axis))
