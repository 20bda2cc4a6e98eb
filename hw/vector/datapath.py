"""The arithmetic of the vector unit: all lanes, the reductions of rows, and what travels beside them."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.isa import Unit
from hw.ports import descriptor_layout
from hw.vector.layouts import slice_layout

__all__ = ["Datapath", "RowResult"]

RowResult = data.StructLayout({"valid": 1, "value": 32})
"""A scalar of a row, seen once: in the cycle with `valid`. Rows come in order, so that whoever takes them counts them."""


class Datapath(wiring.Component):
    """Datapath: slices of a command in, slices of results out, and scalars of rows. Initiation interval 1 cycle.

    The pipeline moves as a whole or stands still: it moves when `o` is taken or empty, and every stream that a stage asks for in
    this cycle has something. Each stream but `i` is asked for by the stage that needs it, some cycles after the slice has entered,
    so that nothing has to be carried along; slices without a use for it ask for nothing. Payloads go straight into arithmetic: they
    should come out of registers.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor)
        Stable while `busy`.
    i : In(stream of {slice: `slice_layout(config)`, a: lanes × 32 bits})
        int32 words of the sources ACCUMULATOR, INT8 and UINT4 (widened), float32 words of the others. Slices of a row follow each other,
        and so do rows; there may be gaps.
    b : In(stream of lanes × 32 bits)
        One item for each slice, if the command has `b_en`.
    c : In(stream of lanes × 32 bits)
        One item for each slice, if the command's `c_use` is not NONE.
    row0 : In(stream of 32 bits)
        One item for each row, taken with its last slice, if the command has `row0_en` and its source is not ROW (then `i.a` is that
        scalar).
    row1 : In(stream of 32 bits)
        One item for each row, taken with its last slice, if the command's `row1_use` is not NONE. As it is in memory: the sign is
        changed here.
    flush : In(1)
        No more slices of the command come: what a row in progress would still wait for does not come. Only needed after a fault, to
        be held until `busy` falls; the sum of a row that lacks its last slice is never shown.
    o : Out(stream of {slice: `slice_layout(config)`, words: lanes × 32 bits})
        float32 words of the outputs FLOAT32 and SCALAR; of INT8 and UINT4 the low 8 and 4 bits. Every slice comes out, also of commands
        whose output is NONE.
    sums, maxima : Out(RowResult)
        A sum some cycles after the last slice of its row has been taken from `o`, a maximum likewise.
    busy : Out(1)
        A slice or an unfinished scalar is inside.

    `row0`, `row1`, `flush`, `sums` and `maxima` are there only with `config.vector` = "transformer".
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        words = data.ArrayLayout(32, config.vector_lanes)
        members = {
            "command": In(descriptor_layout(Unit.VECTOR)),
            "i": In(stream.Signature(data.StructLayout({"slice": slice_layout(config), "a": words}))),
            "b": In(stream.Signature(words)),
            "c": In(stream.Signature(words)),
            "o": Out(stream.Signature(data.StructLayout({"slice": slice_layout(config), "words": words}))),
            "busy": Out(1),
        }
        if config.vector == "transformer":
            members |= {"row0": In(stream.Signature(32)), "row1": In(stream.Signature(32)), "flush": In(1), "sums": Out(RowResult),
                        "maxima": Out(RowResult)}
        super().__init__(members)
