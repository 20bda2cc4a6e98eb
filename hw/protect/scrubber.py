"""Walks a memory in its idle cycles, so that single errors are put right before a second one joins them."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["Scrubber"]


class Scrubber(wiring.Component):
    """Asks for one row after the other, a new one every `period` cycles, each until there is a cycle for it.

    The whole memory is read once in depth·period cycles, if it is idle often enough. The probability that a second flip hits a
    word before the first is gone grows with that time squared, for each such time: half the period, half the errors.

    Parameters
    ----------
    depth : int
        Rows of the memory.
    period : int
        Cycles from one row to the next, at least 2.

    Members
    -------
    idle : In(1)
        Nobody else reads in this cycle.
    read : Out(1), addr : Out(range(depth))
        Row `addr` is read in this cycle; only when idle.
    again : In(1)
        In the cycle after `read`: the row was wrong and could not be written, so it is asked for again.

    Raises
    ------
    ConfigError
        If depth or period is too small.
    """

    def __init__(self, *, depth: int, period: int):
        if depth < 1:
            raise ConfigError(f"Scrubber.depth must be at least 1, not {depth!r}")
        if period < 2:
            raise ConfigError(f"Scrubber.period must be at least 2, not {period!r}")
        self.depth = depth
        self.period = period
        super().__init__({"idle": In(1), "read": Out(1), "addr": Out(range(depth)), "again": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        row = Signal.like(self.addr)
        timer = Signal(range(self.period))
        due = Signal()
        reading = Signal()                      # the row's data are there in this cycle
        tick = timer == self.period - 1
        m.d.comb += [
            self.read.eq(due & self.idle & ~reading),
            self.addr.eq(row),
        ]
        m.d.sync += [timer.eq(Mux(timer >= self.period - 1, 0, timer + 1)), reading.eq(self.read)]
        with m.If(tick | (reading & self.again)):
            m.d.sync += due.eq(1)
        with m.Elif(self.read):
            m.d.sync += due.eq(0)
        with m.If(reading & ~self.again):
            m.d.sync += row.eq(Mux(row >= self.depth - 1, 0, row + 1))
        return m
