"""Reads the slices of a stream from the scratchpad."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2, ceil_power_of_two
from hw.ports import ScratchpadReadPort
from hw.vector.address import AddressWalk, Element, slice_step
from hw.vector.cursor import SliceCursor

__all__ = ["StreamReader", "chunk_layout"]


def chunk_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what a stream reader shows.

    Members
    -------
    words : the aligned piece of a line, as wide as a slice of 32-bit elements, in which the slice lies
    place : byte of the piece at which it begins
    """
    words = ceil_power_of_two(config.vector_lanes)
    return data.StructLayout({"words": data.ArrayLayout(32, words), "place": ceil_log2(4 * words)})


class StreamReader(wiring.Component):
    """Stream reader: walks the rows of A, B or C by itself and asks for one slice a cycle while its queue has room.

    Addresses are not checked: the `Walker` does that, and takes no slice that is out of range (one that is asked for beyond the
    end comes from somewhere else in the scratchpad, and is never used).

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    m, n, origin, stride : In
        Rows, columns, first byte, bytes from row to row; stable from `start` on.
    element : In(2)
        An `Element`.
    start : In(1)
        Begin; the first slice is asked for in the next cycle.
    ask : In(1)
        A slice may be asked for.
    read : ScratchpadReadPort
    shown : Out(1), p : Out(chunk_layout(config))
        The next slice, for one cycle, in the one after it was asked for.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "m": In(16),
            "n": In(16),
            "origin": In(24),
            "stride": In(24),
            "element": In(2),
            "start": In(1),
            "ask": In(1),
            "read": Out(ScratchpadReadPort(config)),
            "shown": Out(1),
            "p": Out(chunk_layout(config)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        asked = Signal()
        m.submodules.cursor = cursor = SliceCursor(config)
        m.submodules.walk = walk = AddressWalk(width=ceil_log2(config.scratchpad_bytes))
        with m.Switch(self.element):
            for kind in Element:
                with m.Case(kind):
                    m.d.comb += walk.along.eq(slice_step(config, kind, cursor.group_end))
        m.d.comb += [
            asked.eq(self.read.valid & self.read.ready),
            cursor.m.eq(self.m),
            cursor.n.eq(self.n),
            cursor.start.eq(self.start),
            cursor.step.eq(asked),
            walk.origin.eq(self.origin),
            walk.stride.eq(self.stride),
            walk.start.eq(self.start),
            walk.step.eq(asked),
            walk.row_end.eq(cursor.row_end),
            self.read.valid.eq(self.ask & cursor.valid),
            self.read.addr.eq(walk.addr >> ceil_log2(config.line_bytes)),
        ]
        line = data.StructLayout({"place": self.p.place.shape(),
                                  "chunk": ceil_log2(config.line_bytes) - self.p.place.shape().width})
        place = Signal(line, reset_less=True)               # of what was asked for, within its line
        m.d.sync += self.shown.eq(asked)
        with m.If(asked):
            m.d.sync += place.eq(walk.addr)
        m.d.comb += [
            self.p.place.eq(place.place),
            self.p.words.eq(self.read.data.word_select(place.chunk, self.p.words.shape().size)),
        ]
        return m
