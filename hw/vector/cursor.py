"""Counts the slices of a vector command."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.vector.layouts import slices_per_group

__all__ = ["SliceCursor"]


class SliceCursor(wiring.Component):
    """Slice cursor: the slices of m rows of n columns in order, all of a row before the next row.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    m, n : In(16)
        Rows and columns, at least 1; stable from `start` on.
    start : In(1)
        Go to the first slice: it is there in the next cycle.
    step : In(1)
        Go to the next one.
    valid : Out(1)
        There is a current slice.
    left : Out(16)
        Columns of the row from the slice on.
    first, row_end, group_end : Out(1)
        The slice is the first or the last one of its row, the last one of a whole group of C columns.
    end : Out(1)
        The command ends with the slice.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "m": In(16),
            "n": In(16),
            "start": In(1),
            "step": In(1),
            "valid": Out(1),
            "left": Out(16),
            "first": Out(1),
            "row_end": Out(1),
            "group_end": Out(1),
            "end": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, slices = self.config.vector_lanes, slices_per_group(self.config)
        left = Signal(16, reset_less=True)
        rows_left = Signal(16, reset_less=True)
        first = Signal(reset_less=True)
        index = Signal(range(slices), reset_less=True)
        m.d.comb += [
            self.left.eq(left),
            self.first.eq(first),
            self.row_end.eq(left <= lanes),
            self.group_end.eq(index == slices - 1),
            self.end.eq(self.row_end & (rows_left == 1)),
        ]
        with m.If(self.start):
            m.d.sync += [self.valid.eq(1), rows_left.eq(self.m)]
        with m.Elif(self.step):
            m.d.sync += self.valid.eq(~self.end)
            with m.If(self.row_end):
                m.d.sync += rows_left.eq(rows_left - 1)
        with m.If(self.start | (self.step & self.row_end)):
            m.d.sync += [left.eq(self.n), first.eq(1), index.eq(0)]
        with m.Elif(self.step):
            m.d.sync += [left.eq(left - lanes), first.eq(0), index.eq(Mux(self.group_end, 0, index + 1))]
        return m
