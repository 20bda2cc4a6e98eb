"""Packed words: every bit where the field table says, for every format; and what does not fit is refused."""

import re

import numpy as np
import pytest

from hw.families import Format
from hw.formats import FORMATS, format_named
from hw.layout import PackedField, PackedWord
from sw import packing
from sw.packing import PackingError, field_dtype, pack_words, row_bytes, unpack_words

NAMES = [*FORMATS, "int3-g7", "int5-g3", "int6-g1", "int7-asym-g5", "mxfp6-e3m2-b9", "bitmod3-g1", "bitmod3-g13", "fp3-g5",
         "int2-asym-g3"]


def random_fields(fmt: Format, rows: int, columns: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(columns)
    blocks = columns // max(1, fmt.block)
    return {field.name: rng.integers(0, 1 << field.width, (rows, blocks, field.count)).astype(field_dtype(field.width))
            for field in fmt.word.fields}


def bits_by_table(fmt: Format, fields: dict[str, np.ndarray], row: int) -> list[int]:
    """Return the bits of a row, one after the other, as `hw.layout` defines them."""
    blocks = next(iter(fields.values())).shape[1]
    bits = []
    for block in range(blocks):
        for field in fmt.word.fields:
            for code in fields[field.name][row, block].tolist():
                bits += [code >> bit & 1 for bit in range(field.width)]
        if fmt.block:
            bits += [0] * (-len(bits) % 8)
    return bits + [0] * (-len(bits) % 8)


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_is_in_its_place(name):
    fmt = format_named(name)
    columns = 3 * fmt.block or 13
    fields = random_fields(fmt, 3, columns)
    payload = pack_words(fmt, fields)
    assert payload.dtype == np.uint8
    assert payload.shape == (3, row_bytes(fmt, columns))
    assert payload.shape[1] == (3 * fmt.word.bytes if fmt.block else -(-13 * fmt.word.bits // 8))
    for row in range(3):
        bits = [byte >> bit & 1 for byte in payload[row].tolist() for bit in range(8)]
        assert bits == bits_by_table(fmt, fields, row)
    found = unpack_words(fmt, payload, columns)
    assert list(found) == list(fields)
    for field, codes in fields.items():
        assert found[field].dtype == codes.dtype
        assert np.array_equal(found[field], codes)


@pytest.mark.parametrize("name", ["int3", "bitmod3-g13", "mxfp6-e3m2-b32", "bbs-average-g32", "sherry"])
def test_pieces_are_as_the_whole(name, monkeypatch):
    """Odd widths are spread out piece by piece; where the pieces end does not show."""
    fmt = format_named(name)
    columns = 4 * fmt.block or 40
    fields = random_fields(fmt, 9, columns)
    whole = pack_words(fmt, fields)
    monkeypatch.setattr(packing, "_CHUNK", 64)
    assert np.array_equal(pack_words(fmt, fields), whole)
    found = unpack_words(fmt, whole, columns)
    assert all(np.array_equal(found[field], codes) for field, codes in fields.items())


def test_views_and_big_endian_codes_pack_alike():
    fmt = format_named("int16-g4")
    fields = random_fields(fmt, 2, 8)
    other = {name: np.asfortranarray(codes.astype(codes.dtype.newbyteorder(">"))) for name, codes in fields.items()}
    assert np.array_equal(pack_words(fmt, other), pack_words(fmt, fields))
    assert np.array_equal(pack_words(format_named("int3"), {"codes": np.arange(8, dtype=">u2").reshape(1, 8, 1)}),
                          pack_words(format_named("int3"), {"codes": np.arange(8, dtype=np.uint8).reshape(1, 8, 1)}))
    payload = pack_words(fmt, fields)
    strided = np.repeat(payload, 2, axis=1)[:, ::2]
    assert np.array_equal(unpack_words(fmt, strided, 8)["codes"], fields["codes"])


@pytest.mark.parametrize(("change", "text"), [
    (lambda f: f.pop("scale"), "fields of bitmod4-g16 must be codes, scale, special, not codes, special"),
    (lambda f: f.update(codes=f["codes"][0]), "field codes must have shape (rows, blocks, count), not (2, 16)"),
    (lambda f: f.update(scale=f["scale"][:1]), "field scale must have shape (3, 2, 1), not (1, 2, 1)"),
    (lambda f: f.update(codes=f["codes"].astype(np.int8)), "field codes must be of an unsigned type, not int8"),
    (lambda f: f.update(special=f["special"] + np.uint8(4)), "codes of field special must be below 4, not 7"),
])
def test_wrong_fields_are_refused(change, text):
    fmt = format_named("bitmod4-g16")
    fields = random_fields(fmt, 3, 32)
    fields["special"][0, 0] = 3
    change(fields)
    with pytest.raises(PackingError, match=f"^{re.escape(text)}$"):
        pack_words(fmt, fields)


@pytest.mark.parametrize(("payload", "columns", "text"), [
    (np.zeros((3, 20), np.uint8), 24, "columns of bitmod4-g16 must be a multiple of its block of 16, not 24"),
    (np.zeros((3, 21), np.uint8), 32, "payload of 32 columns of bitmod4-g16 must be (rows, 20) uint8, not (3, 21) uint8"),
    (np.zeros((3, 20), np.int8), 32, "payload of 32 columns of bitmod4-g16 must be (rows, 20) uint8, not (3, 20) int8"),
    (np.zeros(20, np.uint8), 32, "payload of 32 columns of bitmod4-g16 must be (rows, 20) uint8, not (20,) uint8"),
])
def test_wrong_payloads_are_refused(payload, columns, text):
    with pytest.raises(PackingError, match=f"^{re.escape(text)}$"):
        unpack_words(format_named("bitmod4-g16"), payload, columns)


def test_without_blocks_there_is_one_field():
    class Two(Format):
        @property
        def word(self):
            return PackedWord((PackedField(name="a", width=1, doc=""), PackedField(name="b", width=1, doc="")))

    with pytest.raises(PackingError, match=r"^a format without blocks must have one field, not those of two$"):
        row_bytes(Two(family="two", doc="", source=""), 3)


def test_width_decides_the_type():
    assert [field_dtype(width).itemsize for width in (1, 8, 9, 16, 17, 32)] == [1, 1, 2, 2, 4, 4]
