"""What travels through the vector unit: one slice, up to `vector_lanes` elements of one row."""

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig

__all__ = ["RowResult", "slice_layout", "slices_per_group"]

RowResult = data.StructLayout({"valid": 1, "value": 32})
"""A scalar of a row, seen once: in the cycle with `valid`. Rows come in order, so that whoever takes them can count them."""


def slices_per_group(config: AcceleratorConfig) -> int:
    """Return the number of slices of a whole group of C columns."""
    return config.columns // config.vector_lanes


def slice_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a slice's description.

    What each end counts by itself does not travel: the writer knows its addresses, the row scalars their rows.

    Members
    -------
    count : elements, 1 to `vector_lanes`
    valid_count : elements that are not masked, 0 to `count`
    first, last : of its row
    """
    lanes = config.vector_lanes.bit_length()
    return data.StructLayout({"count": lanes, "valid_count": lanes, "first": 1, "last": 1})
