"""Sums of rows."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.pipeline import registered
from hw.config import ceil_log2
from hw.timing import row_sum_latency
from hw.vector.float32 import ADD_LATENCY, added
from hw.vector.layouts import RowResult
from hw.vector.partial_sums import PARTIAL_SUMS, PartialSums

__all__ = ["RowSum"]


class RowSum(wiring.Component):
    """Row sum: the sum of a row's float32 elements, which come slice by slice, in an order that numpy can repeat.

    The lanes of a slice in pairs; slice s into running sum s mod 8; those eight in pairs. The loop of a running sum is the
    adder's 6 cycles and 2 more, so that eight of them share it. It moves with the slices: a gap within a row holds it, between
    rows it does not. The last sums of a row leave it one a cycle, and one adder a level adds them up (`PartialSums`). Rows of any
    length follow each other. Latency 6 · (⌈log₂ lanes⌉ + 3) + 8 cycles with `enable` high from the row's last slice, and as many
    more as the next row has gaps; initiation interval 1. `lanes` + 3 adders.

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
        Elements of the slice: the lowest ones count.
    values : In(lanes × 32)
    flush : In(1)
        No more slices come: a row in progress does not hold the sums of those before.
    o : Out(RowResult)
    busy : Out(1)
        A slice or a sum is inside.

    Attributes
    ----------
    latency : int
    """

    def __init__(self, *, lanes: int):
        self._lanes = lanes
        self.latency = row_sum_latency(lanes)
        super().__init__({
            "enable": In(1), "valid": In(1), "first": In(1), "last": In(1), "count": In(range(lanes + 1)),
            "values": In(data.ArrayLayout(32, lanes)), "flush": In(1), "o": Out(RowResult), "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # The lanes in pairs. One without a partner just waits: to add +0 could only change the sign of a zero, and the running
        # sum, which begins with +0, does that too.
        level = [Mux(self.count > lane, self.values[lane], 0) for lane in range(self._lanes)]
        depths = ceil_log2(self._lanes)
        for depth in range(depths):
            pairs = [added(m, platform, self.enable, level[index], level[index + 1], f"level_{depth}_{index // 2}")
                     for index in range(0, len(level) - 1, 2)]
            level = pairs + [registered(m, self.enable, value, f"odd_{depth}", ADD_LATENCY) for value in level[2 * len(pairs):]]
        delay = depths * ADD_LATENCY
        first, last = (registered(m, self.enable, flag, name, delay)
                       for flag, name in ((self.first, "first"), (self.last, "last")))
        valids = Signal(delay)
        with m.If(self.enable):
            m.d.sync += valids.eq(Cat(self.valid, valids))
        valid = Cat(self.valid, valids)[delay]

        # The running sums.
        phase = Signal(range(PARTIAL_SUMS))
        next_phase = Signal(range(PARTIAL_SUMS), reset_less=True)
        fresh = Signal()
        first_round = Signal(reset_less=True)
        in_row = Signal()
        tick = Signal()
        m.d.comb += [
            tick.eq(self.enable & (valid | ~in_row | self.flush)),
            phase.eq(Mux(first, 0, next_phase)),
            fresh.eq(first | first_round),
        ]
        with m.If(self.enable & valid):
            m.d.sync += [next_phase.eq(phase + 1), first_round.eq(fresh & (phase != PARTIAL_SUMS - 1)), in_row.eq(~last)]
        added_up = Signal(PARTIAL_SUMS)
        with m.If(tick):
            m.d.sync += added_up.eq(Cat(valid, added_up))
        around = Signal(32)
        running = added(m, platform, tick, Mux(fresh, 0, around), level[0], "running")
        m.d.comb += around.eq(registered(m, tick, running, "around", PARTIAL_SUMS - ADD_LATENCY))

        # What is not taken up by its next slice is a row's own.
        m.submodules.partial = partial = PartialSums()
        m.d.comb += [
            partial.enable.eq(self.enable),
            partial.valid.eq(tick & added_up[-1] & ~(valid & ~fresh)),
            partial.index.eq(registered(m, tick, phase, "phase", PARTIAL_SUMS)),
            partial.last.eq(registered(m, tick, last, "row_end", PARTIAL_SUMS)),
            partial.value.eq(around),
            self.o.valid.eq(self.enable & partial.o.valid),
            self.o.value.eq(partial.o.value),
            self.busy.eq(valids.any() | added_up.any() | partial.busy),
        ]
        return m
