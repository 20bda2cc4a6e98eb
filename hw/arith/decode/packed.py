"""Field table of a packed word → its layout in hardware."""

from amaranth.lib import data

from hw.layout import PackedWord

__all__ = ["packed_layout"]


def packed_layout(word: PackedWord) -> data.StructLayout:
    """Return the layout of `word`, the same bits at the same places, the padding of a stored word to whole bytes aside.

    A field with a count is an array, its element 0 lowest; a field without (count 1) is the element itself. Elements are
    unsigned: what a field means, two's complement included, is the decoder's business.
    """
    return data.StructLayout({field.name: field.width if field.count == 1 else data.ArrayLayout(field.width, field.count)
                              for field in word.fields})
