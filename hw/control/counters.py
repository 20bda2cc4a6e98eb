"""Event counters, made from a table of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.regs import COUNTERS, Counter

__all__ = ["COUNTER_WIDTH", "EventCounters"]

COUNTER_WIDTH = 64


class EventCounters(wiring.Component):
    """One 64-bit counter for each entry of a table. An event shows in `values` `latency` cycles later.

    A register stands before each adder, since events come late in their cycle.

    Parameters
    ----------
    largest : mapping of str to int
        The most that a counter can grow in one cycle, where it is not 1.
    counters : sequence of hw.regs.Counter

    Members
    -------
    clear : In(1)
        Set all counters to zero.
    enable : In(1)
        Count in this cycle.
    <name> : In(0 to largest), for each counter
        How much it grows in this cycle.
    values : Out(struct of 64-bit words)
        The counters.
    """

    latency = 2

    def __init__(self, largest: Mapping[str, int], counters: Sequence[Counter] = COUNTERS):
        self.counters = tuple(counters)
        super().__init__({
            "clear": In(1),
            "enable": In(1),
            **{counter.name: In(range(largest.get(counter.name, 1) + 1)) for counter in self.counters},
            "values": Out(data.StructLayout({counter.name: COUNTER_WIDTH for counter in self.counters})),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for counter in self.counters:
            count = Signal(COUNTER_WIDTH, name=counter.name)
            event = getattr(self, counter.name)
            step = Signal.like(event, name=f"{counter.name}_step")
            with m.If(self.clear):
                m.d.sync += [step.eq(0), count.eq(0)]
            with m.Else():
                m.d.sync += [step.eq(Mux(self.enable, event, 0)), count.eq(count + step)]
            m.d.comb += self.values[counter.name].eq(count)
        return m
