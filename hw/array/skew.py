"""Triangular delays at the edges of a mesh: what enters or leaves at once is spread over, or gathered from, successive cycles."""

from typing import Any

from amaranth import *
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Deskew", "Skew"]


class _Triangle(wiring.Component):
    """Ports of both; lane l of `o` is lane l of `i`, later.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a lane.
    lanes : int
        Number of lanes, at least 1.
    """

    def __init__(self, shape: ShapeLike, lanes: int):
        self.shape = shape
        self.lanes = lanes
        layout = data.ArrayLayout(shape, lanes)
        super().__init__({"i": In(layout), "o": Out(layout)})

    def _stage(self, index: int, lanes: int) -> data.View:
        layout = data.ArrayLayout(self.shape, lanes)
        # A plain register below the view: of a struct signal Amaranth would add a wire to the Verilog for every lane.
        return data.View(layout, Signal(layout.size, name=f"stage_{index}", reset_less=True))


class Skew(_Triangle):
    """Delay lane l by l cycles; initiation interval 1. Stage s holds the lanes s, s + 1, … that have waited s cycles."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        waiting = self.i
        for lane in range(self.lanes):
            m.d.comb += self.o[lane].eq(waiting[0])
            left = self.lanes - lane - 1
            if left:
                stage = self._stage(lane + 1, left)
                m.d.sync += stage.eq(waiting[1:])
                waiting = stage
        return m


class Deskew(_Triangle):
    """Delay lane l by lanes − 1 − l cycles, which undoes `Skew`; initiation interval 1. Stage s holds the lanes 0 … s − 1."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        gathered: Value = Const(0, 0)
        for lane in range(self.lanes - 1):
            stage = self._stage(lane + 1, lane + 1)
            m.d.sync += stage.eq(Cat(gathered, self.i[lane]))
            gathered = stage.as_value()
        m.d.comb += self.o.eq(Cat(gathered, self.i[self.lanes - 1]))
        return m
