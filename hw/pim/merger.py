"""Merger of BCAST accumulators: runs the MAC array's adders over them until each group has one, and writes those."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError

__all__ = ["Merger"]


class Merger(wiring.Component):
    """Sequencer that ends a BCAST accumulation.

    Accumulators of a group are merged neighbours first, in log₂(slots) rounds of one addition a cycle, each of which waits until
    the one before has left the adders; then the segments' sums, in log₂(segments) rounds; with `add` there is one more round,
    with what the entry has. Then the entries are written, one a cycle. All lanes and rows do the same at the same time.

    Parameters
    ----------
    slots : int
        Accumulators of a group, a power of two of at least 2.
    groups, entries, segments : int

    Members
    -------
    start : In(1)
        Begin once the array is empty. In this cycle the others count: entry, last_group, filled, add.
    entry : In, last_group : In, filled : In, add : In(1)
        Of group 0; number of the last group; accumulators of each that hold something, less one; onto what is there.
    empty : In(1)
        The array has neither a beat nor a step under way.
    busy : Out(1), done : Out(1)
        Until the entries are written; the last one is in this cycle.
    step, step_a, step_b, step_to, step_a_on, step_b_on, step_outside, step_across, read : Out
        See `MacArray`.
    reads, writes : Out(1), at : Out
        Entry `at` is read for the next cycle, is written with accumulator `read`.
    """

    def __init__(self, *, slots: int, groups: int, entries: int, segments: int = 1):
        if slots < 2 or slots & (slots - 1):
            raise ConfigError(f"Merger.slots must be a power of two of at least 2, not {slots!r}")
        self._slots, self._groups, self._rounds = slots, groups, ceil_log2(segments)
        place, entry = ceil_log2(slots * groups), ceil_log2(entries)
        super().__init__({
            "start": In(1), "entry": In(entry), "last_group": In(ceil_log2(groups)), "filled": In(ceil_log2(slots)), "add": In(1),
            "empty": In(1), "busy": Out(1), "done": Out(1),
            "step": Out(1), "step_a": Out(place), "step_b": Out(place), "step_to": Out(place),
            "step_a_on": Out(1), "step_b_on": Out(1), "step_outside": Out(1), "step_across": Out(range(self._rounds + 1)),
            "read": Out(place),
            "reads": Out(1), "writes": Out(1), "at": Out(entry),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slots = self._slots
        entry, last_group, filled = Signal.like(self.entry), Signal.like(self.last_group), Signal.like(self.filled)
        add, first_round, settle = Signal(), Signal(), Signal()
        pairs, pair, group = Signal(range(slots // 2 + 1)), Signal(range(slots)), Signal(range(self._groups))
        across = Signal(range(self._rounds + 2))            # the round of segments that comes next, from 1 on
        base = group * slots
        last_pair, last = pair == pairs - 1, group == last_group
        m.d.comb += [self.at.eq(entry + group), self.read.eq(base), self.step_a.eq(base + 2 * pair),
                     self.step_b.eq(base + 2 * pair + 1), self.step_to.eq(base + pair),
                     self.step_a_on.eq(~first_round | (filled >= 2 * pair)),
                     self.step_b_on.eq(~first_round | (filled > 2 * pair))]
        with m.FSM(name="merge"):
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += [entry.eq(self.entry), last_group.eq(self.last_group), filled.eq(self.filled), add.eq(self.add),
                                 first_round.eq(1), pairs.eq(slots // 2), pair.eq(0), across.eq(1), group.eq(0), settle.eq(1)]
                    m.next = "wait"
            with m.State("wait"):       # the last beat enters the array in the first cycle here
                m.d.comb += self.busy.eq(1)
                m.d.sync += settle.eq(0)
                with m.If(self.empty & ~settle):
                    with m.If(pairs != 0):
                        m.next = "pairs"
                    with m.Elif(across <= self._rounds):
                        m.next = "across"
                    with m.Elif(add):
                        m.next = "fetch"
                    with m.Else():
                        m.next = "write"
            with m.State("pairs"):
                m.d.comb += [self.busy.eq(1), self.step.eq(1)]
                m.d.sync += pair.eq(Mux(last_pair, 0, pair + 1))
                with m.If(last_pair):
                    m.d.sync += group.eq(Mux(last, 0, group + 1))
                    with m.If(last):
                        m.d.sync += [pairs.eq(pairs >> 1), first_round.eq(0), settle.eq(1)]
                        m.next = "wait"
            with m.State("across"):
                m.d.comb += [self.busy.eq(1), self.step.eq(1), self.step_a.eq(base), self.step_to.eq(base), self.step_a_on.eq(1),
                             self.step_across.eq(across)]
                m.d.sync += group.eq(Mux(last, 0, group + 1))
                with m.If(last):
                    m.d.sync += [across.eq(across + 1), settle.eq(1)]
                    m.next = "wait"
            with m.State("fetch"):
                m.d.comb += [self.busy.eq(1), self.reads.eq(1)]
                m.next = "add"
            with m.State("add"):
                m.d.comb += [self.busy.eq(1), self.step.eq(1), self.step_outside.eq(1), self.step_a.eq(base),
                             self.step_to.eq(base), self.step_a_on.eq(1)]
                m.d.sync += group.eq(Mux(last, 0, group + 1))
                m.next = "fetch"
                with m.If(last):
                    m.d.sync += [add.eq(0), settle.eq(1)]
                    m.next = "wait"
            with m.State("write"):
                m.d.comb += [self.busy.eq(1), self.writes.eq(1)]
                m.d.sync += group.eq(Mux(last, 0, group + 1))
                m.d.comb += self.done.eq(last)
                with m.If(last):
                    m.next = "idle"
        return m
