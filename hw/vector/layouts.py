"""What travels through the vector unit: one slice, up to `vector_lanes` elements of one row."""

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig

__all__ = ["slice_layout", "slices_per_row"]


def slices_per_row(config: AcceleratorConfig) -> int:
    """Return the number of slices of a whole group of C columns."""
    return config.columns // config.vector_lanes


def slice_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a slice's description.

    Members
    -------
    addr : byte in the scratchpad that the slice's output goes to
    count : elements, 1 to `vector_lanes`
    valid_count : elements that are not masked, 0 to `vector_lanes`
    phase : the slice's number within its row, modulo 8: which running sum it goes to
    fresh : the slice is one of the first eight of its row: that running sum begins with it
    first, last : of its row
    row : the row's number within the command
    end : the command ends with this slice
    """
    lanes = config.vector_lanes.bit_length()
    return data.StructLayout({"addr": 24, "count": lanes, "valid_count": lanes, "phase": 3, "fresh": 1, "first": 1, "last": 1,
                              "row": 16, "end": 1})
