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

_CHUNK = 1 << 20
"""Elements whose bits are spread out at a time: what bounds the memory of odd widths."""


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
    if shift == 0:
        packed = _pack(codes, width)
        last = packed.shape[1] - 1
        payload[:, first:first + last] = packed[:, :last]
        payload[:, first + last] |= packed[:, last]
        return
    for rows in _pieces(codes):
        packed = np.packbits(_bits(codes[rows], width, shift), axis=1, bitorder="little")
        payload[rows, first:first + packed.shape[1]] |= packed


def _pack(codes: Codes, width: int) -> Bytes:
    """Return codes (words, count) as bytes from bit 0 up, each word padded to whole bytes."""
    words, count = codes.shape
    if width in (8, 16, 32):
        return np.ascontiguousarray(codes, f"<u{width // 8}").view(np.uint8).reshape(words, count * width // 8)
    if width == 4:
        codes = codes.astype(np.uint8, copy=False)
        packed = np.zeros((words, -(-count // 2)), np.uint8)
        packed[:] = codes[:, ::2]
        packed[:, :count // 2] |= codes[:, 1::2] << 4
        return packed
    packed = np.empty((words, -(-count * width // 8)), np.uint8)
    for rows in _pieces(codes):
        packed[rows] = np.packbits(_bits(codes[rows], width), axis=1, bitorder="little")
    return packed


def _take(payload: Bytes, count: int, width: int, low: int) -> Codes:
    """Return the `count` codes of each word of `payload` (words, bytes) from bit `low` up: (words, count)."""
    first, shift = divmod(low, 8)
    dtype = field_dtype(width)
    part = payload[:, first:first + -(-(shift + count * width) // 8)]
    if shift == 0 and width in (8, 16, 32):
        return np.ascontiguousarray(part).view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    codes = np.empty((len(payload), count), dtype)
    if shift == 0 and width == 4:
        codes[:, ::2] = part & 15
        codes[:, 1::2] = part[:, :count // 2] >> 4
        return codes
    for rows in _pieces(codes):
        bits = np.unpackbits(part[rows], axis=1, bitorder="little")[:, shift:shift + count * width].reshape(-1, count, width)
        spread = np.zeros((len(bits), count, dtype.itemsize * 8), np.uint8)
        spread[:, :, :width] = bits
        codes[rows] = np.packbits(spread.ravel(), bitorder="little").view(dtype.newbyteorder("<")).reshape(-1, count)
    return codes


def _bits(codes: Codes, width: int, shift: int = 0) -> Bytes:
    """Return the bits of codes (words, count), lowest first, with `shift` zeros before them: (words, shift + count·width)."""
    words, count = codes.shape
    octets = np.ascontiguousarray(codes, codes.dtype.newbyteorder("<")).view(np.uint8).reshape(words, count, -1)
    bits = np.zeros((words, shift + count * width), np.uint8)
    bits[:, shift:] = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :width].reshape(words, -1)
    return bits


def _pieces(codes: Codes) -> list[slice]:
    """Return slices over the words of codes (words, count) of about `_CHUNK` elements."""
    step = max(1, _CHUNK // max(1, codes.shape[1]))
    return [slice(low, low + step) for low in range(0, len(codes), step)]
