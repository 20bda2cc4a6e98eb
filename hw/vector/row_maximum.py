"""Maxima of rows."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.pipeline import registered
from hw.config import ceil_log2
from hw.timing import row_maximum_latency
from hw.vector.float32 import greater
from hw.vector.lane import MINUS_INFINITY
from hw.vector.layouts import RowResult

__all__ = ["RowMaximum"]


class RowMaximum(wiring.Component):
    """Row maximum: the greatest of a row's float32 elements, which come slice by slice, and of a seed.

    NaN if anything is; −0 is less than +0. The lanes of a slice in pairs, then the running maximum of the row. Latency ⌈log₂
    lanes⌉ + 1 cycles with `enable` high from the row's last slice, initiation interval 1: rows of any length follow each other.
    `lanes` comparators.

    Parameters
    ----------
    lanes : int

    Members
    -------
    enable : In(1)
        0 holds every register.
    valid, first, last : In(1)
        A slice is there; it is the first, the last one of its row.
    count : In(range(lanes + 1))
        Elements of the slice, at least 1: the lowest ones count.
    values : In(lanes × 32)
    seed : In(32)
        Of the row whose first slice was there `seed_delay` cycles before.
    o : Out(RowResult)
    busy : Out(1)
        A slice is inside.

    Attributes
    ----------
    latency, seed_delay : int
    """

    def __init__(self, *, lanes: int):
        self._lanes = lanes
        self.latency = row_maximum_latency(lanes)
        self.seed_delay = ceil_log2(lanes)
        super().__init__({
            "enable": In(1), "valid": In(1), "first": In(1), "last": In(1), "count": In(range(lanes + 1)),
            "values": In(data.ArrayLayout(32, lanes)), "seed": In(32), "o": Out(RowResult), "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        level = [Mux(self.count > lane, self.values[lane], MINUS_INFINITY) for lane in range(self._lanes)]
        for depth in range(self.seed_delay):
            pairs = [greater(m, platform, self.enable, level[index], level[index + 1], f"level_{depth}_{index // 2}")
                     for index in range(0, len(level) - 1, 2)]
            level = pairs + [registered(m, self.enable, value, f"odd_{depth}") for value in level[2 * len(pairs):]]

        valid = Signal(self.latency)
        first, last = (registered(m, self.enable, flag, name, self.seed_delay)
                       for flag, name in ((self.first, "first"), (self.last, "last")))
        arriving = Cat(self.valid, valid)[self.seed_delay]
        running = Signal(32)
        m.d.comb += [
            running.eq(greater(m, platform, self.enable & arriving, Mux(first, self.seed, running), level[0], "running")),
            self.o.valid.eq(self.enable & valid[-1] & registered(m, self.enable, last, "done")),
            self.o.value.eq(running),
            self.busy.eq(valid.any()),
        ]
        with m.If(self.enable):
            m.d.sync += valid.eq(Cat(self.valid, valid))
        return m
