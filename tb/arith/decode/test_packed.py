"""Layouts of packed words: every field of every format at the bits that its table says."""

import pytest
from amaranth.lib import data

from hw.arith.decode.packed import packed_layout
from hw.formats import FORMATS
from hw.layout import PackedField, PackedWord


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_fields_lie_where_the_table_says(fmt):
    layout = packed_layout(fmt.word)
    assert layout.size == fmt.word.bits
    for field in fmt.word.fields:
        where = layout[field.name]
        assert (where.offset, where.width) == (fmt.word.offsets[field.name], field.bits)


def test_elements_of_a_field_lie_lowest_first():
    layout = packed_layout(PackedWord((PackedField(name="a", width=3, count=2, doc=""), PackedField(name="b", width=2, doc=""))))
    assert layout == data.StructLayout({"a": data.ArrayLayout(3, 2), "b": 2})
    word = layout.from_bits(0b10_011_101)
    assert (word.a[0], word.a[1], word.b) == (0b101, 0b011, 0b10)
