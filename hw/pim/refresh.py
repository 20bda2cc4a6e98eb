"""Refresher: decides which banks are refreshed when, and closes and refreshes them."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.timing import DramTiming
from hw.pim.timing_tables import POSTPONED_REFRESHES, DramCommand

__all__ = ["Refresher"]

_PATIENCE = 4


class Refresher(wiring.Component):
    """Refreshes ranks as a whole, or with `same_bank` sets of banks, bank by bank.

    Each of these units owes one refresh more every REFI, one unit after the other. A unit that owes one is refreshed when no job
    in the queue is for it, so that it costs nothing; and also with jobs once it owes 4, at the end of a job. With `hold` it is
    only once it owes 8, the most that the DRAM allows. Its rows are closed first; a refresh of all banks takes RFC, one bank by
    bank (streams − 1)·RREFD + RFCSB.

    Parameters
    ----------
    timing : DramTiming
    streams : int
        Banks of a set.
    phases : int
        DRAM clocks in a cycle.
    same_bank : bool

    Members
    -------
    open, closable, settled : In(sets)
        See `RowTimers`.
    in_use, busy : In(sets)
        A job in the queue is for the set; it has begun.
    hold : In(1)
    asked : In(sets), served : Out(1)
        Refresh the unit of this set now, whatever it owes; it is done. Held until then, and no job is under way for the unit.
    blocks : Out(sets)
        Being closed for a refresh, or refreshed: no other command.
    wanted : Out(sets)
        Will be refreshed at the end of the job: no row need be opened ahead.
    command, op, set, bank, whole, last : Out
        A row command in this cycle, if `command`; it goes before any other. `last` of a unit.
    slack : Out(4)
        Refreshes that can still be put off, by the unit that owes most.
    """

    def __init__(self, *, timing: DramTiming, streams: int, phases: int, same_bank: bool):
        self._timing, self._streams, self._phases, self._same_bank = timing, streams, phases, same_bank
        self._sets = timing.all_banks // streams
        sets = self._sets
        super().__init__({
            "open": In(sets), "closable": In(sets), "settled": In(sets), "in_use": In(sets), "busy": In(sets), "hold": In(1),
            "asked": In(sets), "served": Out(1),
            "blocks": Out(sets), "wanted": Out(sets),
            "command": Out(1), "op": Out(ceil_log2(len(DramCommand))), "set": Out(ceil_log2(sets)),
            "bank": Out(ceil_log2(streams)), "whole": Out(1), "last": Out(1), "slack": Out(4),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        t, phases = self._timing, self._phases
        units = self._sets if self._same_bank else min(t.ranks, self._sets)
        steps = self._streams if self._same_bank else t.ranks // units      # commands that a unit takes, each for other banks
        apart_banks = 1 if self._same_bank else t.all_banks // t.ranks
        each = self._sets // units
        most = POSTPONED_REFRESHES

        # What each unit owes: one more every REFI, spread over the units.
        step = t.refi // units
        clocks, next_unit = Signal(range(step + phases)), Signal(range(units))
        due, done = Signal(), Signal()
        m.d.comb += due.eq(clocks + phases >= step)
        m.d.sync += clocks.eq(Mux(due, clocks + phases - step, clocks + phases))
        with m.If(due):
            m.d.sync += next_unit.eq(Mux(next_unit == units - 1, 0, next_unit + 1))
        unit = Signal(range(units))
        owed = [Signal(range(most + 2), name=f"owed_{index}") for index in range(units)]
        for index, count in enumerate(owed):
            more, less = due & (next_unit == index), done & (unit == index)
            m.d.sync += count.eq(Mux(more & ~less & (count != most + 1), count + 1,
                                     Mux(less & ~more & (count != 0), count - 1, count)))
        most_owed = Signal(range(most + 1))
        for number in range(1, most + 1):
            with m.If(Cat(count >= number for count in owed).any()):
                m.d.comb += most_owed.eq(number)
        m.d.comb += self.slack.eq(most - most_owed)

        # Whose turn it is.
        free, forced = Signal(units), Signal(units)
        urgent, asked = Signal(units), Signal(units)
        for index, count in enumerate(owed):
            its = slice(index * each, (index + 1) * each)
            m.d.comb += [
                urgent[index].eq(count >= Mux(self.hold, most, _PATIENCE)),
                free[index].eq((count != 0) & ~self.in_use[its].any() & ~self.hold),
                asked[index].eq(self.asked[its].any()),
                forced[index].eq(urgent[index] & ~self.busy[its].any()),
                self.wanted[its].eq(urgent[index].replicate(each)),
            ]
        picked = Signal.like(unit)
        candidates = Mux(forced.any(), forced, Mux(asked.any(), asked, free))
        answers = Signal()
        for index in reversed(range(units)):
            with m.If(candidates[index]):
                m.d.comb += picked.eq(index)

        # Close, wait, refresh.
        members = Signal(self._sets)
        for index in range(units):
            m.d.comb += members[index * each:(index + 1) * each].eq((unit == index).replicate(each))
        step_now = Signal(range(steps))
        apart = Signal(range(t.rrefd + phases))
        last_step = step_now == steps - 1
        m.d.sync += apart.eq(Mux(apart > phases, apart - phases, 0))
        m.d.comb += [self.set.eq(unit * each), self.whole.eq(not self._same_bank and units == t.ranks)]
        with m.FSM(name="refresh"):
            with m.State("idle"):
                with m.If(candidates.any()):
                    m.d.sync += [unit.eq(picked), step_now.eq(0), answers.eq(asked.bit_select(picked, 1))]
                    m.next = "close"
            with m.State("close"):
                m.d.comb += [self.blocks.eq(members), self.op.eq(DramCommand.PRE)]
                with m.If(~(self.open & members).any()):
                    m.next = "refresh"
                with m.Elif(((self.closable | ~self.open) & members) == members):
                    m.d.comb += self.command.eq(1)
                    m.next = "refresh"
            with m.State("refresh"):
                m.d.comb += [
                    self.blocks.eq(members), self.op.eq(DramCommand.REFSB if self._same_bank else DramCommand.REF),
                    self.bank.eq(step_now * apart_banks if steps > 1 else 0), self.last.eq(last_step),
                    self.command.eq(((self.settled & members) == members) & (apart == 0)),
                ]
                with m.If(self.command):
                    m.d.sync += [step_now.eq(step_now + 1), apart.eq(t.rrefd)]
                    with m.If(last_step):
                        m.d.comb += [done.eq(1), self.served.eq(answers)]
                        m.next = "idle"
        return m
