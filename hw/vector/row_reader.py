"""Reads the slices of accumulator rows."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.ports import AccumulatorReadPort
from hw.vector.address import AddressWalk
from hw.vector.cursor import SliceCursor
from hw.vector.layouts import slices_per_group

__all__ = ["RowReader"]


class RowReader(wiring.Component):
    """Row reader: walks the rows of the accumulator by itself and asks for one slice a cycle while its queue has room.

    Row i of group j lies in accumulator row `origin + j·tile_stride + i`. Addresses are not checked: the `Walker` does that, and
    takes no slice that is out of range.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    m, n, origin, tile_stride : In(16)
        Stable from `start` on.
    start : In(1)
        Begin; the first slice is asked for in the next cycle.
    ask : In(1)
        A slice may be asked for.
    acc : AccumulatorReadPort
    shown : Out(1), words : Out(lanes × signed(32))
        The next slice, for one cycle, in the one after it was asked for.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "m": In(16),
            "n": In(16),
            "origin": In(16),
            "tile_stride": In(16),
            "start": In(1),
            "ask": In(1),
            "acc": Out(AccumulatorReadPort(config)),
            "shown": Out(1),
            "words": Out(data.ArrayLayout(signed(32), config.vector_lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        lanes, slices = config.vector_lanes, slices_per_group(config)
        width = ceil_log2(config.accumulator_rows)
        asked = Signal()
        m.submodules.cursor = cursor = SliceCursor(config)
        m.submodules.walk = walk = AddressWalk(width=width)
        m.d.comb += [
            asked.eq(self.acc.valid & self.acc.ready),
            cursor.m.eq(self.m),
            cursor.n.eq(self.n),
            cursor.start.eq(self.start),
            cursor.step.eq(asked),
            walk.origin.eq(self.origin),
            walk.stride.eq(1),
            walk.along.eq(Mux(cursor.group_end, self.tile_stride, 0)),
            walk.start.eq(self.start),
            walk.step.eq(asked),
            walk.row_end.eq(cursor.row_end),
            self.acc.valid.eq(self.ask & cursor.valid),
            self.acc.addr.eq(walk.addr),
        ]
        index = Signal(range(slices), reset_less=True)      # of the next slice to be asked for, within its group
        shown_index = Signal.like(index, reset_less=True)
        chosen = Signal(data.ArrayLayout(signed(config.acc_width), lanes))
        m.d.sync += self.shown.eq(asked)
        with m.If(self.start):
            m.d.sync += index.eq(0)
        with m.Elif(asked):
            m.d.sync += [index.eq(Mux(cursor.row_end | cursor.group_end, 0, index + 1)), shown_index.eq(index)]
        m.d.comb += Value.cast(chosen).eq(Value.cast(self.acc.data).word_select(shown_index, lanes * config.acc_width))
        m.d.comb += [self.words[lane].eq(chosen[lane]) for lane in range(lanes)]
        return m
