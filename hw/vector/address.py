"""Where the slices of a stream lie: an address that walks along rows, and from row to row."""

from enum import IntEnum
from typing import Any

from amaranth import *
from amaranth.hdl import ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.vector.layouts import slices_per_group

__all__ = ["AddressWalk", "Element", "slice_step"]


class Element(IntEnum):
    """How wide an element of a stream is."""

    WORD = 0
    BYTE = 1
    NIBBLE = 2

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return (32, 8, 4)[self]


def slice_step(config: AcceleratorConfig, element: Element, group_end: ValueLike) -> Value:
    """Return the bytes from a slice to the next one of its row, which differ at the end of a group that is padded."""
    inside = config.vector_lanes
    across = config.output_slot_bytes - (slices_per_group(config) - 1) * inside
    return Mux(group_end, across * element.bits // 8, inside * element.bits // 8)


class AddressWalk(wiring.Component):
    """Address walk: row 0 begins at `origin`, the others `stride` apart; within a row the parent says how far each slice is.

    Parameters
    ----------
    width : int
        Bits of a row's first address. The current one has a bit more, so that a step from an address in range cannot wrap.

    Members
    -------
    origin, stride : In(width)
        Stable from `start` on.
    along : In(width)
        From the current slice to the next one of the row.
    start, step, row_end : In(1)
        As of a `SliceCursor`.
    addr : Out(width + 1)
        Of the current slice.
    """

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({
            "origin": In(width),
            "stride": In(width),
            "along": In(width),
            "start": In(1),
            "step": In(1),
            "row_end": In(1),
            "addr": Out(width + 1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        row = Signal(self.width, reset_less=True)
        addr = Signal(self.width + 1, reset_less=True)
        following = Signal(self.width + 1)
        m.d.comb += [
            self.addr.eq(addr),
            following.eq(Mux(self.row_end, row, addr) + Mux(self.row_end, self.stride, self.along)),
        ]
        with m.If(self.start):
            m.d.sync += [row.eq(self.origin), addr.eq(self.origin)]
        with m.Elif(self.step):
            m.d.sync += addr.eq(following)
            with m.If(self.row_end):
                m.d.sync += row.eq(following)
        return m
