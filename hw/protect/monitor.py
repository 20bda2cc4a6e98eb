"""Remembers what checkers and register banks report, block by block."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.protect.domains import BLOCKS

__all__ = ["COUNT_WIDTH", "ProtectionMonitor"]

COUNT_WIDTH = 16
"""Of the two counts, which stop at their maxima."""


class ProtectionMonitor(wiring.Component):
    """Counts of errors and the first cycle with one; and the stop: a level while any block has reported a detected error.

    A report in cycle t is in the counts and in `set` in cycle t + 1. Whoever holds the sticky bits returns them as `pending`, so
    that an error that comes between two programs stops the next one: only the host takes it away.

    Members
    -------
    detected, corrected : In(one bit a block)
        Reports.
    clear : In(1)
        Counts and first cycle start anew.
    enable : In(1)
        The cycles that the first cycle is counted in.
    detected_set, corrected_set : Out(one bit a block)
        Sticky bits to set.
    pending : In(one bit a block)
        Sticky bits of detected errors.
    stop : Out(1)
        Some are set.
    detected_count, corrected_count : Out(16)
        Cycles with a report.
    first_cycle : Out(32)
        Cycles from `clear` to the first report of either kind; all ones before.
    """

    def __init__(self) -> None:
        blocks = len(BLOCKS)
        super().__init__({
            "detected": In(blocks),
            "corrected": In(blocks),
            "clear": In(1),
            "enable": In(1),
            "detected_set": Out(blocks),
            "corrected_set": Out(blocks),
            "pending": In(blocks),
            "stop": Out(1),
            "detected_count": Out(COUNT_WIDTH),
            "corrected_count": Out(COUNT_WIDTH),
            "first_cycle": Out(32, init=0xFFFF_FFFF),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        cycle = Signal(32)
        seen = Signal()
        m.d.sync += [self.detected_set.eq(self.detected), self.corrected_set.eq(self.corrected)]
        m.d.comb += self.stop.eq((self.pending | self.detected_set).any())
        for reports, count in ((self.detected_set, self.detected_count), (self.corrected_set, self.corrected_count)):
            with m.If(reports.any() & ~count.all()):
                m.d.sync += count.eq(count + 1)
        with m.If((self.detected_set | self.corrected_set).any() & ~seen):
            m.d.sync += [seen.eq(1), self.first_cycle.eq(cycle)]
        with m.If(self.enable):
            m.d.sync += cycle.eq(cycle + 1)
        with m.If(self.clear):
            m.d.sync += [self.detected_count.eq(0), self.corrected_count.eq(0), cycle.eq(0), seen.eq(0),
                         self.first_cycle.eq(self.first_cycle.init)]
        return m
