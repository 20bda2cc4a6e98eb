"""Fields of a number format ↔ stored bytes, by the format's field table (`hw.layout`).

A block is one packed word, padded with zeros to whole bytes; the blocks of a row follow each other. A format without blocks
packs the values of a row bit next to bit and pads the row. Bit i of a stored word is bit i mod 8 of byte i / 8.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import Format
from hw.layout import PackedField

__all__ = ["PackingError", "field_dtype", "pack_words", "row_bytes", "unpack_words"]

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[Any]

_CHUNK = 1 << 16
"""Codes of an odd width worked on at a time: what keeps the temporaries small."""


class PackingError(ValueError):
    """Fields or bytes that do not fit the format's packed word."""


def field_dtype(width: int) -> np.dtype[Any]:
    """Return the unsigned type that holds codes of `width` bits."""
    return np.dtype(np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32)


def _words(fmt: Format, columns: int) -> tuple[tuple[PackedField, ...], int]:
    """Return the fields of one stored word, and the words of a row: without blocks, a row is one word."""
    if fmt.block:
        if columns % fmt.block:
            raise PackingError(f"columns of {fmt.name} must be a multiple of its block of {fmt.block}, not {columns}")
        return fmt.word.fields, columns // fmt.block
    if len(fmt.word.fields) != 1:
        raise PackingError(f"a format without blocks must have one field, not those of {fmt.name}")
    return fmt.word.fields, 1


def row_bytes(fmt: Format, columns: int) -> int:
    """Return the stored bytes of a row of `columns` values, padding to whole blocks included."""
    fields, words = _words(fmt, columns)
    return words * fmt.word.bytes if fmt.block else -(-columns * fields[0].width // 8)


def pack_words(fmt: Format, fields: dict[str, Codes]) -> Bytes:
    """Return the packed blocks of each row.

    Parameters
    ----------
    fmt : Format
    fields : dict of str to ndarray
        Every field of `fmt.word`: unsigned codes (rows, blocks, count); without blocks (rows, columns, 1).

    Returns
    -------
    (rows, bytes) uint8

    Raises
    ------
    PackingError
        If a field is missing or unknown, of another shape, signed, or a code needs more bits than the field has.
    """
    table = fmt.word.fields
    if set(fields) != {field.name for field in table}:
        raise PackingError(f"fields of {fmt.name} must be {', '.join(field.name for field in table)}, not {', '.join(fields)}")
    first = np.asarray(fields[table[0].name])
    if first.ndim != 3:
        raise PackingError(f"field {table[0].name} must have shape (rows, blocks, count), not {first.shape}")
    rows, blocks = first.shape[:2]
    for field in table:
        codes = np.asarray(fields[field.name])
        if codes.shape != (rows, blocks, field.count):
            raise PackingError(f"field {field.name} must have shape {(rows, blocks, field.count)}, not {codes.shape}")
        if codes.dtype.kind != "u":
            raise PackingError(f"field {field.name} must be of an unsigned type, not {codes.dtype}")
        if codes.size and codes.dtype.itemsize * 8 > field.width and int(codes.max()) >> field.width:
            raise PackingError(f"codes of field {field.name} must be below {1 << field.width}, not {codes.max()}")
    if not fmt.block:
        return _pack(first.reshape(rows, blocks), table[0].width)
    payload = np.zeros((rows * blocks, fmt.word.bytes), np.uint8)
    for field, low in zip(table, fmt.word.offsets.values(), strict=True):
        codes = np.asarray(fields[field.name]).reshape(rows * blocks, field.count)
        _put(payload, codes, field.width, low)
    return payload.reshape(rows, blocks * fmt.word.bytes)


def unpack_words(fmt: Format, payload: Bytes, columns: int) -> dict[str, Codes]:
    """Return the fields in `payload`: the inverse of `pack_words`.

    Parameters
    ----------
    fmt : Format
    payload : (rows, bytes) uint8
    columns : int
        Values of a row, padding to whole blocks included.

    Raises
    ------
    PackingError
        If columns is no multiple of the block, or the payload has another type or number of bytes.
    """
    table, blocks = _words(fmt, columns)
    payload = np.asarray(payload)
    if payload.dtype != np.uint8 or payload.ndim != 2 or payload.shape[1] != row_bytes(fmt, columns):
        raise PackingError(f"payload of {columns} columns of {fmt.name} must be (rows, {row_bytes(fmt, columns)}) uint8, "
                           f"not {payload.shape} {payload.dtype}")
    rows = len(payload)
    if not fmt.block:
        return {table[0].name: _take(payload, columns, table[0].width, 0).reshape(rows, columns, 1)}
    words = np.ascontiguousarray(payload).reshape(rows * blocks, fmt.word.bytes)
    return {field.name: _take(words, field.count, field.width, low).reshape(rows, blocks, field.count)
            for field, low in zip(table, fmt.word.offsets.values(), strict=True)}


def _put(payload: Bytes, codes: Codes, width: int, low: int) -> None:
    """Write codes (words, count) into `payload` (words, bytes) from bit `low` up."""
    first, shift = divmod(low, 8)
    packed = _pack(codes, width)
    end = first + packed.shape[1]
    if shift == 0:
        payload[:, first:end] |= packed
        return
    payload[:, first:end] |= packed << np.uint8(shift)
    spill = payload[:, first + 1:end + 1]                   # one byte less where the last does not reach into the next
    spill |= (packed >> np.uint8(8 - shift))[:, :spill.shape[1]]


def _pack(codes: Codes, width: int) -> Bytes:
    """Return codes (words, count) as bytes from bit 0 up, each word padded to whole bytes."""
    words, count = codes.shape
    if width in (8, 16, 32):
        return np.ascontiguousarray(codes, f"<u{width // 8}").view(np.uint8).reshape(words, count * width // 8)
    packed = np.empty((words, -(-count * width // 8)), np.uint8)
    if width == 4:
        codes = codes.astype(np.uint8, copy=False)
        packed[:] = codes[:, ::2]
        packed[:, :count // 2] |= codes[:, 1::2] << np.uint8(4)
        return packed
    eights = -(-count // 8)
    for rows in _pieces(words, count):
        if width < 8:
            octets = np.zeros((len(codes[rows]), 8 * eights), np.uint8)
            octets[:, :count] = codes[rows]
            squeezed = _squeeze(octets.view("<u8"), width).view(np.uint8).reshape(-1, eights, 8)[:, :, :width]
            packed[rows] = squeezed.reshape(len(octets), -1)[:, :packed.shape[1]]
        else:
            octets = np.ascontiguousarray(codes[rows], "<u4").view(np.uint8).reshape(-1, count, 4)
            bits = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :width]
            packed[rows] = np.packbits(bits.reshape(len(bits), -1), axis=1, bitorder="little")
    return packed


def _take(payload: Bytes, count: int, width: int, low: int) -> Codes:
    """Return the `count` codes of each word of `payload` (words, bytes) from bit `low` up: (words, count)."""
    first, shift = divmod(low, 8)
    size = -(-count * width // 8)
    part = payload[:, first:first + size]
    if shift:
        part = part >> np.uint8(shift)
        spill = payload[:, first + 1:first + 1 + size]
        part[:, :spill.shape[1]] |= spill << np.uint8(8 - shift)
    dtype = field_dtype(width)
    if width in (8, 16, 32):
        return np.ascontiguousarray(part).view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    codes = np.empty((len(payload), count), dtype)
    if width == 4:
        codes[:, ::2] = part & 15
        codes[:, 1::2] = part[:, :count // 2] >> np.uint8(4)
        return codes
    eights = -(-count // 8)
    for rows in _pieces(len(payload), count):
        if width < 8:
            groups = np.zeros((len(part[rows]), eights * width), np.uint8)
            groups[:, :size] = part[rows]
            octets = np.zeros((len(groups), eights, 8), np.uint8)
            octets[:, :, :width] = groups.reshape(len(groups), eights, width)
            codes[rows] = _spread(octets.reshape(len(groups), -1).view("<u8"), width).view(np.uint8)[:, :count]
        else:
            bits = np.unpackbits(part[rows], axis=1, bitorder="little")[:, :count * width].reshape(-1, count, width)
            padded = np.zeros((len(bits), count, dtype.itemsize * 8), np.uint8)
            padded[:, :, :width] = bits
            codes[rows] = np.packbits(padded.ravel(), bitorder="little").view(dtype.newbyteorder("<")).reshape(-1, count)
    return codes


def _lanes(width: int) -> list[tuple[int, int, int]]:
    """Return (unused bits, used bits, mask of the used bits of every even lane) for lanes of 8, 16 and 32 bits."""
    steps = []
    for lane in (8, 16, 32):
        used = width * lane // 8
        mask = sum(((1 << used) - 1) << low for low in range(0, 64, 2 * lane))
        steps.append((lane - used, used, mask))
    return steps


def _squeeze(words: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Return eight codes, one in each byte of a word, next to each other in its low bits: neighbours join, three times."""
    for gap, used, mask in _lanes(width):
        words = words & np.uint64(mask) | words >> np.uint64(gap) & np.uint64(mask << used)
    return words


def _spread(words: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Return eight codes that lie next to each other one in each byte: the inverse of `_squeeze`."""
    for gap, used, mask in reversed(_lanes(width)):
        words = words & np.uint64(mask) | (words & np.uint64(mask << used)) << np.uint64(gap)
    return words


def _pieces(words: int, count: int) -> list[slice]:
    """Return slices over `words` of `count` codes each, of about `_CHUNK` codes."""
    step = max(1, _CHUNK // max(1, count))
    return [slice(low, low + step) for low in range(0, words, step)]
