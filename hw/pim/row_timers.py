"""Timers of the rows of one pseudo-channel: which row is open in each set of banks, and when each command may come."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.timing import DramTiming
from hw.pim.timing_tables import DramCommand, activate_cycles, refresh_bank

__all__ = ["RowTimers", "after"]


def after(timer: Value, phases: int) -> Value:
    """Return what a timer that counts DRAM clocks from the beginning of this cycle is from the beginning of the next one."""
    return Mux(timer > phases, timer - phases, 0)


class RowTimers(wiring.Component):
    """Open rows and timers of `sets` sets of banks, which follow the commands.

    A timer says in how many DRAM clocks, from the beginning of this cycle, a command may come at the earliest; so it may come in
    this cycle if that is below `phases`, and then in that phase. Commands of a cycle count from the next one on.

    Parameters
    ----------
    timing : DramTiming
    interval : int
        DRAM clocks from one burst to the next.
    sets, phases, row_bits : int
    apart : bool
        Bursts of a set and of one in another bank group may be CCD_S apart: sets of one bank each.

    Members
    -------
    row_cmd, row_op, row_set, row_row, row_phase, whole, last : In
        The row command of this cycle; `whole`: for all sets of the rank; `last`: the last refresh of the set or
        rank.
    read, wrote, col_set, col_phase : In
        The column command of this cycle.
    open : Out(sets)
    rows : Out(ArrayLayout(row_bits, sets))
        Which row is open, or was.
    can_activate, can_precharge, can_read, can_write : Out(sets)
        In this cycle, as far as the times go.
    activate_phase, precharge_phase, read_phase, write_phase : Out(ArrayLayout(phase, sets))
        Then in this phase at the earliest.
    bus_phase : Out(phase)
        First phase of this cycle in which the row bus is free.
    closable, settled : Out(sets)
        PRE may come in any phase of this cycle; the set is closed, and ACT or REF may come in any phase.
    """

    def __init__(self, *, timing: DramTiming, interval: int, sets: int, phases: int, row_bits: int,
                 apart: bool = False):
        self._timing, self._interval, self._sets, self._phases, self._apart = timing, interval, sets, phases, apart
        phase = max(1, ceil_log2(phases))
        per_set = data.ArrayLayout(phase, sets)
        super().__init__({
            "row_cmd": In(1), "row_op": In(ceil_log2(len(DramCommand))), "row_set": In(ceil_log2(sets)), "row_row": In(row_bits),
            "row_phase": In(phase), "whole": In(1), "last": In(1),
            "read": In(1), "wrote": In(1), "col_set": In(ceil_log2(sets)), "col_phase": In(phase),
            "open": Out(sets), "rows": Out(data.ArrayLayout(row_bits, sets)),
            **{f"can_{name}": Out(sets) for name in ("activate", "precharge", "read", "write")},
            **{f"{name}_phase": Out(per_set) for name in ("activate", "precharge", "read", "write")},
            "bus_phase": Out(phase), "closable": Out(sets), "settled": Out(sets),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        t, phases = self._timing, self._phases
        written = t.cwl + t.bl

        def timer(name: str, longest: int) -> Signal:
            return Signal(range(longest + 1), name=name)

        # Times that all sets share.
        row_bus = timer("row_bus", 2 + phases)
        # ACTs of single banks come far enough apart that no window sees more than four of them.
        together = max(t.rrd_l, -(-t.faw // 4)) if self._sets == t.all_banks else t.rrd_l
        activate = timer("activate", together + phases)
        read = timer("read", max(self._interval, written + t.wtr_l) + phases)
        write = timer("write", max(self._interval, t.rtw) + phases)
        opens = Signal()
        m.d.comb += [opens.eq(self.row_cmd & ((self.row_op == DramCommand.ACT) | (self.row_op == DramCommand.ACTM))),
                     self.bus_phase.eq(row_bus)]
        for shared, event, phase, clocks in (
                (row_bus, self.row_cmd, self.row_phase, Mux(opens, activate_cycles(t), 1)),
                (activate, opens, self.row_phase, together)):
            m.d.sync += shared.eq(Mux(event, _from(phase + clocks, phases), after(shared, phases)))
        column = self.col_phase
        spaced = max(self._interval, t.ccd_s if self._apart else t.ccd_l)
        with m.If(self.read):
            m.d.sync += [read.eq(_from(column + spaced, phases)), write.eq(_from(column + max(t.rtw, spaced), phases))]
        with m.Elif(self.wrote):
            m.d.sync += [read.eq(_from(column + written + t.wtr_l, phases)), write.eq(_from(column + spaced, phases))]
        with m.Else():
            m.d.sync += [read.eq(after(read, phases)), write.eq(after(write, phases))]

        ranks = min(t.ranks, self._sets)        # a set may be all banks of all ranks
        per_rank = self._sets // ranks
        rank = Signal(range(ranks))
        for number in range(1, ranks):
            with m.If(self.row_set >= number * per_rank):
                m.d.comb += rank.eq(number)
        for index in range(self._sets):
            to_act = timer(f"to_activate_{index}", max(t.rfc, refresh_bank(t), t.rc) + phases)
            to_pre = timer(f"to_precharge_{index}", max(t.ras, written + t.wr) + phases)
            to_read, to_write = timer(f"to_read_{index}", max(t.rcd_mac, t.ccd_l) + phases), timer(
                f"to_write_{index}", max(t.rcd_write, t.ccd_l) + phases)
            is_open = Signal(name=f"open_{index}")
            here, its_column = Signal(name=f"row_command_{index}"), self.col_set == index
            m.d.comb += [
                self.open[index].eq(is_open),
                here.eq(self.row_cmd & ((self.row_set == index) | (self.whole & (rank == index // per_rank)))),
            ]
            row = Signal.like(self.row_row, name=f"row_{index}")
            m.d.comb += self.rows[index].eq(row)
            for timer_now, shared, can, phase in (
                    (to_act, (row_bus, activate), self.can_activate, self.activate_phase),
                    (to_pre, (row_bus,), self.can_precharge, self.precharge_phase),
                    (to_read, (read,), self.can_read, self.read_phase), (to_write, (write,), self.can_write, self.write_phase)):
                earliest = timer_now
                for other in shared:
                    earliest = Mux(other > earliest, other, earliest)
                m.d.comb += [can[index].eq(earliest < phases), phase[index].eq(earliest)]
            m.d.comb += [self.closable[index].eq(to_pre == 0), self.settled[index].eq(~is_open & (to_act == 0))]

            m.d.sync += [moved.eq(after(moved, phases)) for moved in (to_act, to_pre, to_read, to_write)]
            since = self.row_phase
            with m.If(its_column & self.read):
                m.d.sync += to_pre.eq(_later(to_pre, column + t.rtp_l, phases))
            with m.If(its_column & self.wrote):
                m.d.sync += to_pre.eq(_later(to_pre, column + written + t.wr, phases))
            if self._apart:             # of one bank group: bank n is of group n mod groups of its rank
                group = Cat(self.col_set == other for other in range(self._sets)
                            if other // per_rank == index // per_rank and (other - index) % t.bank_groups == 0).any()
                for going, moved in ((self.read, to_read), (self.wrote, to_write)):
                    with m.If(group & going):
                        m.d.sync += moved.eq(_later(moved, column + t.ccd_l, phases))
            with m.If(here):
                with m.Switch(self.row_op):
                    with m.Case(DramCommand.ACT, DramCommand.ACTM):
                        m.d.sync += [
                            is_open.eq(1), row.eq(self.row_row), to_pre.eq(since + t.ras - phases),
                            to_act.eq(since + t.rc - phases), to_read.eq(since + t.rcd_mac - phases),
                            to_write.eq(since + t.rcd_write - phases),
                        ]
                    with m.Case(DramCommand.PRE):
                        m.d.sync += [is_open.eq(0), to_act.eq(_later(to_act, since + t.rp, phases))]
                    for refresh, clocks in ((DramCommand.REF, t.rfc), (DramCommand.REFSB, refresh_bank(t))):
                        with m.Case(refresh):
                            with m.If(self.last):
                                m.d.sync += to_act.eq(since + clocks - phases)
        return m


def _from(clocks: Value, phases: int) -> Value:
    """Return a timer of `clocks` from this cycle on, for the next one; at least 0."""
    return Mux(clocks > phases, clocks - phases, 0)


def _later(timer: Value, clocks: Value, phases: int) -> Value:
    """Return the later of a timer's end and `clocks` from this cycle on, for the next one."""
    return after(Mux(timer > clocks, timer, clocks), phases)
