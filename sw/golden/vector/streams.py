"""Rows of a vector command in the scratchpad: where their elements lie, how they are read and written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from hw.isa import StreamUse, VectorOutput, VectorSource

__all__ = ["Stream", "canonical", "input_streams", "output_stream"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SOURCE_BITS: Mapping[int, int] = {VectorSource.FLOAT32: 32, VectorSource.INT8: 8, VectorSource.UINT4: 4, VectorSource.SCALAR: 32}
OUTPUT_BITS: Mapping[int, int] = {VectorOutput.INT8: 8, VectorOutput.FLOAT32: 32, VectorOutput.UINT4: 4, VectorOutput.SCALAR: 32}


def canonical(values: Floats) -> Floats:
    """Return the values with every NaN the positive quiet one."""
    return np.where(np.isnan(values), np.float32(np.nan), values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Rows of elements, in groups of C columns padded to a power of two; addresses are checked before rows are read or written.

    Attributes
    ----------
    addr, stride : int
        First byte of row 0, and bytes from row to row; 0: one row for all.
    bits : int
        Of an element: 4, 8 or 32.
    scalar : bool
        One element a row, at any multiple of 4.
    """

    addr: int
    stride: int
    bits: int
    scalar: bool = False

    def alignment(self, config: AcceleratorConfig) -> int:
        """Return what addresses and strides are multiples of: the bytes of a slice."""
        return 4 if self.scalar else max(1, ceil_power_of_two(config.vector_lanes) * self.bits // 8)

    def offset(self, config: AcceleratorConfig, column: int) -> int:
        """Return the byte in which a column's element begins, counted from its row's first."""
        group, rest = divmod(column, config.columns)
        return (group * config.output_slot_bytes + rest) * self.bits // 8

    def locate(self, config: AcceleratorConfig, byte: int, m: int, n: int) -> tuple[int, int] | None:
        """Return row and column of the element in a byte of the scratchpad (the last row's, the lower of two nibbles)."""
        rows = np.arange(m, dtype=np.int64)
        group, rest = np.divmod((byte - self.addr - rows * self.stride) * 8 // self.bits, config.output_slot_bytes)
        columns = group * config.columns + rest
        found = np.flatnonzero((group >= 0) & (rest < config.columns) & (columns < (1 if self.scalar else n)))
        return (int(found[-1]), int(columns[found[-1]])) if found.size else None

    def read(self, config: AcceleratorConfig, scratchpad: Bytes, rows: range, n: int, dtype: type) -> npt.NDArray[np.generic]:
        """Return elements of some rows, (…, m, n), or (…, 1, n) where one row serves all; nibbles as unsigned bytes.

        scratchpad : (…, bytes), runs side by side.
        """
        rows = rows if self.stride else rows[:1]
        pieces = [self._view(scratchpad, rows, first, size).copy() for first, size in self.pieces(config, n)]
        data = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)
        if self.bits == 4:
            nibbles: Bytes = np.stack((data & 15, data >> 4), axis=-1).reshape(*data.shape[:-1], -1)
            return nibbles[..., self._nibbles(config, n)]
        return data.view(dtype)

    def write(self, config: AcceleratorConfig, scratchpad: Bytes, rows: range, results: Floats, output: VectorOutput) -> None:
        """Write results, (…, m, n), as elements of some rows; of rows that overlap, the last one stays."""
        if self.scalar:
            results = results[..., :1]
        data, n = self._encode(config, results, output), results.shape[-1]
        pieces = list(self.pieces(config, n))
        apart = self.stride >= sum(pieces[-1])
        for block in [slice(None)] if apart else [slice(i, i + 1) for i in range(len(rows))]:
            done = 0
            for first, size in pieces:
                self._view(scratchpad, rows[block], first, size)[...] = data[..., block, done:done + size]
                done += size

    def _encode(self, config: AcceleratorConfig, results: Floats, output: VectorOutput) -> Bytes:
        """Return the bytes of every row, those of padding between groups left out."""
        if self.bits == 32:
            return np.ascontiguousarray(canonical(results)).view(np.uint8)
        low, high = (-128, 127) if output is VectorOutput.INT8 else (0, 15)
        words = np.nan_to_num(np.clip(np.rint(results), np.float32(low), np.float32(high)), copy=False, nan=0.0)
        data = words.astype(np.int8).view(np.uint8)
        if self.bits == 8:
            return data
        *lead, n = data.shape
        nibbles = np.zeros((*lead, 2 * sum(size for _, size in self.pieces(config, n))), np.uint8)
        nibbles[..., self._nibbles(config, n)] = data
        pairs: Bytes = nibbles[..., 0::2] | nibbles[..., 1::2] * np.uint8(16)
        return pairs

    def pieces(self, config: AcceleratorConfig, n: int) -> Iterator[tuple[int, int]]:
        """Yield first byte and size of each contiguous piece of a row."""
        if config.columns == config.output_slot_bytes:
            yield 0, ceil_div(n * self.bits, 8)
            return
        for column in range(0, n, config.columns):
            yield self.offset(config, column), ceil_div(min(config.columns, n - column) * self.bits, 8)

    def _nibbles(self, config: AcceleratorConfig, n: int) -> npt.NDArray[np.int64]:
        """Return where each column's nibble lies among those of a row's pieces, in which groups have whole bytes."""
        group, rest = np.divmod(np.arange(n), config.columns)
        return group * (config.columns + config.columns % 2) + rest

    def _view(self, scratchpad: Bytes, rows: range, first: int, size: int) -> Bytes:
        """Return a view of some bytes of some rows, (…, m, size)."""
        lead, steps = scratchpad.shape[:-1], scratchpad.strides[:-1]
        return as_strided(scratchpad[..., self.addr + rows.start * self.stride + first:], (*lead, len(rows), size),
                          (*steps, self.stride, 1))


def input_streams(fields: Mapping[str, int]) -> dict[str, Stream]:
    """Return the streams that a command reads, in the order in which they are checked."""
    streams = {}
    if (bits := SOURCE_BITS.get(fields["source"])) is not None:
        streams["a"] = Stream(addr=fields["a_addr"], stride=fields["a_stride"], bits=bits,
                              scalar=fields["source"] == VectorSource.SCALAR)
    for name, used in (("b", fields["b_en"]), ("c", fields["c_use"] != StreamUse.NONE)):
        if used:
            streams[name] = Stream(addr=fields[f"{name}_addr"], stride=fields[f"{name}_stride"], bits=32)
    return streams


def output_stream(fields: Mapping[str, int]) -> Stream | None:
    """Return the stream that a command writes; None if there is none, or `output` is no VectorOutput."""
    if (bits := OUTPUT_BITS.get(fields["output"])) is None:
        return None
    return Stream(addr=fields["addr"], stride=fields["stride"], bits=bits, scalar=fields["output"] == VectorOutput.SCALAR)
