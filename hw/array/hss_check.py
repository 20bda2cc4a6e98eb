"""Checks coordinates of weights in structured sparsity as they load."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.hss_fp4 import SHIFT_MAX
from hw.array.hss_shape import HssShape
from hw.engines.hss import METADATA

__all__ = ["CoordinateCheck"]


class CoordinateCheck(wiring.Component):
    """Says whether a slot of coordinate bytes, one for each column, holds any that no record may have.

    Block coordinates must be below H1 and strictly increasing over a group's two bytes, value coordinates below H0 and strictly
    increasing in their block. Of SDQ: outliers' places below 8, the shift at most 4, the two places without inlier increasing and
    below 8. `bad` is combinational; bytes of a group come in order.

    Parameters
    ----------
    shape : HssShape
    columns : int
        C.

    Members
    -------
    lanes : In(C × unsigned(8)), coordinates : In(bytes of coordinates)
        The slot, and which byte it is, one bit; none: nothing to check.
    columns : In(range(C + 1))
        Columns that count.
    h1, h0, sdq : In
        Of the mode.
    bad : Out(1)
    """

    def __init__(self, shape: HssShape, *, columns: int):
        self.shape, self.width = shape, columns
        super().__init__({
            "lanes": In(data.ArrayLayout(unsigned(8), columns)),
            "coordinates": In(shape.metadata),
            "columns": In(range(columns + 1)),
            "h1": In(4),
            "h0": In(3),
            "sdq": In(1),
            "bad": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        byte = [Cat(self.coordinates[group * METADATA + index] for group in range(self.shape.groups)).any()
                for index in range(METADATA)]
        verdicts = []
        for column in range(self.width):
            lane = self.lanes[column]
            low, high = lane[:4], lane[4:]
            before = Signal(4, name=f"before_{column}", reset_less=True)        # the last block coordinate of the byte before
            with m.If(byte[0]):
                m.d.sync += before.eq(high)
            pairs = [lane.word_select(index, 2) for index in range(4)]
            values = Cat((first >= second) | (second >= self.h0) for first, second in (pairs[:2], pairs[2:])).any()
            blocks = (low >= high) | (high >= self.h1)
            wrong = Signal(name=f"wrong_{column}")
            with m.If(byte[0]):
                m.d.comb += wrong.eq(blocks)
            with m.If(byte[1]):
                m.d.comb += wrong.eq(blocks | (before >= low))
            with m.If(byte[2] | byte[3]):
                m.d.comb += wrong.eq(values)
            if self.shape.sdq:
                with m.If(self.sdq & byte[0]):
                    m.d.comb += wrong.eq(low[3] | high[3])
                with m.If(self.sdq & byte[1]):
                    m.d.comb += wrong.eq((low > SHIFT_MAX) | high.any())
                with m.If(self.sdq & (byte[2] | byte[3])):
                    m.d.comb += wrong.eq((low >= high) | high[3])
            verdicts.append(wrong & (column < self.columns))
        m.d.comb += self.bad.eq(Cat(verdicts).any())
        return m
