"""How matrices lie in DRAM: ndarray ↔ bytes, from the geometry of a config.

Every operand is one `MatrixLayout`: element (b, i, j) of a batch of matrices lies at an affine address, except that rows and
columns may come in groups padded to a slot (arrays whose side is no power of two), and that two int4 share a byte.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two

__all__ = [
    "LayoutError", "MatrixLayout", "column_matrix", "output_rows", "packed_weights", "parameter_rows", "round_up",
    "row_activations", "weight_rows",
]



_WORDS: dict[int, Any] = {16: np.int16, 32: np.int32}


class LayoutError(ValueError):
    """An array that does not fit its layout."""


def round_up(value: int, step: int) -> int:
    """Return the least multiple of `step` that is ≥ `value`."""
    return ceil_div(value, step) * step


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixLayout:
    """Where element (b, i, j) of a batch × rows × columns array lies.

    Row i is at row position (i // row_group)·row_slot + i mod row_group; its bytes are row_position·row_stride. Column j is in
    group j // column_group, group_stride bytes apart, at bit (j mod column_group)·bits.

    Attributes
    ----------
    batch, rows, columns : int
        Shape of the array.
    bits : int
        Bits of an element: 4 or 8 (int8 arrays), 16 (float16 or bfloat16 arrays), or 32 (int32 or float32 arrays).
    row_group, row_slot : int
        Rows of a group, and row positions from one group to the next.
    column_group : int
        Columns of a group.
    row_stride, group_stride, batch_stride : int
        Bytes between row positions, groups of columns, and matrices of the batch.
    size : int
        Bytes of the whole.
    """

    batch: int
    rows: int
    columns: int
    bits: int
    row_group: int
    row_slot: int
    column_group: int
    row_stride: int
    group_stride: int
    batch_stride: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array: (batch, rows, columns)."""
        return self.batch, self.rows, self.columns

    def row_position(self, row: int) -> int:
        """Return where row `row` lies, counted in rows of the padded matrix."""
        return row // self.row_group * self.row_slot + row % self.row_group

    def offset(self, batch: int, row: int, column: int) -> int:
        """Return the byte of element (batch, row, column)."""
        return (batch * self.batch_stride + self.row_position(row) * self.row_stride
                + column // self.column_group * self.group_stride + column % self.column_group * self.bits // 8)

    def locate(self, offset: int) -> tuple[int, int, int] | None:
        """Return the (batch, row, column) of the element in byte `offset` (the lower of two int4), or None in padding."""
        hits = np.flatnonzero(self._offsets().ravel() == offset - offset % max(1, self.bits // 8))
        if hits.size == 0:
            return None
        batch, row, column = np.unravel_index(hits[0], self.shape)
        return int(batch), int(row), int(column)

    def pack(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the bytes of `array`, flat uint8 of `size`; padding is zero.

        Parameters
        ----------
        array : ndarray
            Shape (batch, rows, columns), or (rows, columns) where batch is 1; int8, or any type of so many bits where those are
            16 or 32.

        Raises
        ------
        LayoutError
            If shape, type or range do not fit.
        """
        array = np.asarray(array)
        if array.shape != self.shape and (self.batch != 1 or array.shape != self.shape[1:]):
            raise LayoutError(f"array must have shape {self.shape if self.batch != 1 else self.shape[1:]}, not {array.shape}")
        if self.bits >= 16:
            if 8 * array.dtype.itemsize != self.bits:
                raise LayoutError(f"array must be of a {self.bits}-bit type, not {array.dtype}")
            array = array.view(_WORDS[self.bits])
        elif array.dtype != np.int8:
            raise LayoutError(f"array must be int8, not {array.dtype}")
        elif self.bits == 4 and array.size and (array.min() < -8 or array.max() > 7):
            raise LayoutError(f"int4 values must be between -8 and 7, not {array.min()} to {array.max()}")
        flat = np.zeros(self.size, np.uint8)
        offsets = self._offsets()
        array = array.reshape(self.shape)
        if self.bits == 4:
            nibbles = (array & 15).astype(np.uint8)
            odd = np.arange(self.columns) % self.column_group % 2 == 1
            flat[offsets[..., ~odd]] = nibbles[..., ~odd]
            flat[offsets[..., odd]] |= nibbles[..., odd] << 4
        elif self.bits == 8:
            flat[offsets] = array.view(np.uint8)
        else:
            flat.view(_WORDS[self.bits])[offsets // (self.bits // 8)] = array
        return flat

    def unpack(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the array in `data` (flat uint8, at least `size`): shape (batch, rows, columns), int8, int16 or int32."""
        offsets = self._offsets()
        if self.bits == 4:
            odd = np.arange(self.columns) % self.column_group % 2
            nibbles = (data[offsets] >> (4 * odd).astype(np.uint8)) & 15
            return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)
        if self.bits == 8:
            return data[offsets].view(np.int8)
        return np.ascontiguousarray(data[:self.size]).view(_WORDS[self.bits])[offsets // (self.bits // 8)]

    def to_dict(self) -> dict[str, int]:
        """Return the fields as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, int]) -> "MatrixLayout":
        """Build a layout from what `to_dict` gives."""
        return cls(**fields)

    def _offsets(self) -> npt.NDArray[np.int64]:
        """Return the byte of every element, shape (batch, rows, columns)."""
        batch = np.arange(self.batch, dtype=np.int64) * self.batch_stride
        rows = np.arange(self.rows, dtype=np.int64)
        rows = (rows // self.row_group * self.row_slot + rows % self.row_group) * self.row_stride
        columns = np.arange(self.columns, dtype=np.int64)
        columns = columns // self.column_group * self.group_stride + columns % self.column_group * self.bits // 8
        return batch[:, None, None] + rows[None, :, None] + columns[None, None, :]


def _rows(config: AcceleratorConfig, batch: int, rows: int, columns: int, *, bits: int = 8, row_group: int = 1,
          column_group: int = 1, column_slot_bytes: int | None = None) -> MatrixLayout:
    """Return a row-major layout with a beat-aligned pitch; rows and columns may be grouped."""
    slot = column_group * bits // 8 if column_slot_bytes is None else column_slot_bytes
    pitch = round_up(ceil_div(columns, column_group) * slot, config.beat_bytes)
    row_slot = ceil_power_of_two(row_group)
    positions = rows if row_slot == row_group else ceil_div(rows, row_group) * row_slot
    return MatrixLayout(batch=batch, rows=rows, columns=columns, bits=bits, row_group=row_group, row_slot=row_slot,
                        column_group=column_group, row_stride=pitch, group_stride=slot, batch_stride=positions * pitch,
                        size=batch * positions * pitch)


def row_activations(config: AcceleratorConfig, rows: int, columns: int, batch: int = 1, *, apart: bool = False) -> MatrixLayout:
    """Return the layout of activations whose columns feed the array's R rows: slots of R elements along each row.

    That is A as M×K for a weight-stationary command (columns are K), or as K×M for an output-stationary one (columns are M).
    With `apart`, each slot starts at a beat.
    """
    slot = max(config.activation_slot_bytes, config.beat_bytes if apart else 0)
    return _rows(config, batch, rows, columns, bits=config.activation.bits, column_group=config.rows, column_slot_bytes=slot)


def column_matrix(config: AcceleratorConfig, rows: int, columns: int, row_group: int, batch: int = 1, *,
                  apart: int = 0) -> MatrixLayout:
    """Return the layout of a matrix that is transposed on its way in: row groups become slots, columns become rows.

    That is A as K×M for weight-stationary (groups of R along K), A as M×K for output-stationary (groups of R along M), and B
    as N×K for both (groups of C along N). With `apart`, each group of that many columns starts at a beat.
    """
    if apart:
        slot = round_up(apart, config.beat_bytes)
        return _rows(config, batch, rows, columns, row_group=row_group, column_group=apart, column_slot_bytes=slot)
    return _rows(config, batch, rows, columns, row_group=row_group)


def weight_rows(config: AcceleratorConfig, k: int, n: int, batch: int = 1) -> MatrixLayout:
    """Return the layout of B as K×N row-major: slots of C weights along each row."""
    return _rows(config, batch, k, n, bits=config.weight.bits, column_group=config.columns,
                 column_slot_bytes=config.weight_slot_bytes)


def packed_weights(config: AcceleratorConfig, k: int, n: int, batch: int = 1) -> MatrixLayout:
    """Return the layout of packed constant weights, [n-group][k][slot]: a group of C columns is one contiguous piece."""
    slot = config.weight_slot_bytes
    group = round_up(k * slot, config.beat_bytes)
    size = ceil_div(n, config.columns) * group
    return MatrixLayout(batch=batch, rows=k, columns=n, bits=config.weight.bits, row_group=1, row_slot=1,
                        column_group=config.columns, row_stride=slot, group_stride=group, batch_stride=size, size=batch * size)


def parameter_rows(config: AcceleratorConfig, n: int) -> MatrixLayout:
    """Return the layout of the vector parameters: row 0 the int32 biases, row 1 the float32 scales, in slots of C words."""
    pitch = round_up(ceil_div(n, config.columns) * config.parameter_slot_bytes, config.beat_bytes)
    return MatrixLayout(batch=1, rows=2, columns=n, bits=32, row_group=1, row_slot=1, column_group=config.columns,
                        row_stride=pitch, group_stride=config.parameter_slot_bytes, batch_stride=2 * pitch, size=2 * pitch)


def output_rows(config: AcceleratorConfig, m: int, n: int, batch: int = 1, *, bits: int = 8) -> MatrixLayout:
    """Return the layout of an int8 or (32 bits) float32 result, M×N row-major: slots of C outputs along each row."""
    return _rows(config, batch, m, n, bits=bits, column_group=config.columns,
                 column_slot_bytes=config.output_slot_bytes * bits // 8)
