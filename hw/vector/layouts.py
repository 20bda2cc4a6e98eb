"""What travels through the vector unit: one slice, up to `vector_lanes` elements of one output row."""

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig, ceil_log2

__all__ = ["slice_layout", "slices_per_row", "slots_per_line"]


def slices_per_row(config: AcceleratorConfig) -> int:
    """Return the number of slices of a whole row of C columns."""
    return config.columns // config.vector_lanes


def slots_per_line(config: AcceleratorConfig) -> int:
    """Return the number of output slots in a scratchpad line."""
    return config.line_bytes // config.output_slot_bytes


def slice_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a slice's description.

    Members
    -------
    line, slot : scratchpad line, and the output slot in it (no member when a line is one slot)
    index : the slice within its row (no member when a row is one slice)
    count : elements that are written, 1 to `vector_lanes`
    last : the command ends with this slice
    """
    members = {
        "line": ceil_log2(config.scratchpad_lines),
        "slot": ceil_log2(slots_per_line(config)),
        "index": ceil_log2(slices_per_row(config)),
        "count": config.vector_lanes.bit_length(),
        "last": 1,
    }
    return data.StructLayout({name: width for name, width in members.items() if width})
