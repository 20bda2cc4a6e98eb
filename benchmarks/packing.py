"""Packed words: codes a second to bytes and back, against the obvious lines of numpy in the same run.

The obvious lines take every code apart into bits, put the bits of a word next to each other, and `np.packbits`; and back. Times
are of the processor, one core, best of three.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.formats import speed
from hw.families import Format
from hw.formats import format_named
from sw.packing import field_dtype, pack_words, unpack_words

__all__ = ["NAMES", "SHAPE", "rows"]

NAMES = ("int4", "int3", "int4-g32", "int3-asym-g128", "mxfp6-e3m2-b32", "nvfp4", "razer", "bitmod4-g128",
         "bitmod3-g128", "2:4", "hss-4:8-2:4", "tasd-2:4+2:8", "sdq-7:8-1:8int8-6:8fp4-g64", "bbs-shift-g32", "sherry",
         "kvquant3-g128")
"""Formats whose words are not whole bytes already."""

SHAPE = (256, 8192)

Fields = dict[str, npt.NDArray[Any]]


def _obvious_pack(fmt: Format, fields: Fields) -> npt.NDArray[np.uint8]:
    parts = []
    for field in fmt.word.fields:
        codes = fields[field.name]
        bits = (codes[..., None] >> np.arange(field.width, dtype=codes.dtype) & 1).astype(np.uint8)
        parts.append(bits.reshape(*codes.shape[:2], -1))
    bits = np.concatenate(parts, axis=-1)
    packed = np.packbits(bits if fmt.block else bits.reshape(len(bits), 1, -1), axis=-1, bitorder="little")
    return packed.reshape(len(bits), -1)


def _obvious_unpack(fmt: Format, payload: npt.NDArray[np.uint8], columns: int) -> Fields:
    words = payload.reshape(len(payload), columns // fmt.block if fmt.block else 1, -1)
    bits = np.unpackbits(words, axis=-1, bitorder="little")
    fields, low = {}, 0
    for field in fmt.word.fields:
        count = field.count if fmt.block else columns
        part = bits[..., low:low + count * field.width].reshape(*bits.shape[:2], count, field.width)
        dtype = field_dtype(field.width)
        codes = part @ (dtype.type(1) << np.arange(field.width, dtype=dtype))
        fields[field.name] = codes if fmt.block else codes.reshape(len(payload), columns, 1)
        low += count * field.width
    return fields


def rows(names: Sequence[str] = NAMES, shape: tuple[int, int] = SHAPE) -> list[dict[str, Any]]:
    """Return a row for each format; weights are those that the words stand for."""
    rng, table = np.random.default_rng(0), []
    for name in names:
        fmt = format_named(name)
        blocks = shape[1] // max(1, fmt.block)
        columns = blocks * max(1, fmt.block)
        size = shape[0] * columns
        fields = {field.name: rng.integers(0, 1 << field.width, (shape[0], blocks, field.count)).astype(field_dtype(field.width))
                  for field in fmt.word.fields}
        payload = pack_words(fmt, fields)
        if not np.array_equal(payload, _obvious_pack(fmt, fields)):
            raise AssertionError(f"two ways to pack {name} must agree")
        back = _obvious_unpack(fmt, payload, columns)
        if not all(np.array_equal(fields[field], back[field]) for field in fields):
            raise AssertionError(f"two ways to unpack {name} must agree")
        pack = speed(lambda fmt=fmt, fields=fields: pack_words(fmt, fields), size)
        other = speed(lambda fmt=fmt, fields=fields: _obvious_pack(fmt, fields), size)
        unpack = speed(lambda fmt=fmt, p=payload, c=columns: unpack_words(fmt, p, c), size)
        other_back = speed(lambda fmt=fmt, p=payload, c=columns: _obvious_unpack(fmt, p, c), size)
        table.append({"format": name, "pack, M weights/s": pack, "obvious": other, "ratio": pack / other,
                      "unpack, M/s": unpack, "obvious, back": other_back, "ratio, back": unpack / other_back})
    return table
