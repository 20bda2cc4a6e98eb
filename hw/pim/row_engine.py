"""Row engine: opens and closes rows ahead of need, refreshes, and reads bursts as fast as the DRAM and the skid allow."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.pim.ports import DramPort, RowJob, row_job_layout, write_burst_layout
from hw.pim.refresh import Refresher
from hw.pim.row_timers import RowTimers
from hw.pim.timing import DramTiming
from hw.pim.timing_tables import DramCommand, same_bus

__all__ = ["RowEngine"]


class RowEngine(wiring.Component):
    """Planner of one pseudo-channel: jobs in, DRAM commands out, each in the first DRAM clock in which the rules allow it.

    A job is a run of bursts of one row of one set of banks. Bursts go out in order of the jobs, `interval` clocks apart; the rows
    of the `lookahead` − 1 jobs behind the one that is read are opened meanwhile, where they are in other sets: with jobs that
    alternate between two sets ("ping-pong") the time of PRE and ACT is hidden. A row stays open after its job. A read goes out
    only with a credit, a free place for its data.

    A row of `columns` bursts takes (columns − 1)·interval + RTP + RP + RCD clocks where the next row is in the same set, and
    columns·interval where it is in another one, if that is at least RTP + RP + RCD.

    With `stripes` 2 a job is for two sets of one bank each, in two bank groups, with a row of both open: bursts alternate between
    them, so that they may be CCD_S apart. Burst c is column c div 2 of set 2·set + c mod 2.

    A job of another kind opens a row, closes the set's, or refreshes, in its turn, and waits for its time as bursts do; a row
    that is open, or none, is left so.

    Refresh: see `Refresher`.

    Parameters
    ----------
    timing : DramTiming
    interval : int
        DRAM clocks from one burst to the next, at least CCD_L, or with stripes CCD_S.
    streams : int
        Banks of a set, a divisor of the banks.
    phases : int
        DRAM clocks in a cycle of the PIM clock: at most what passes between any two commands that follow each other in one bank.
    rows : int
        Rows of a bank.
    credits : int
        Places for bursts behind the DRAM.
    lookahead : int
        Jobs that are looked at, at least 1.
    same_bank : bool
        Banks are refreshed one by one, else by rank.
    stripes : int
        1 or 2; 2 only with one stream, and refreshes by rank.

    Members
    -------
    i : In(stream of `row_job_layout`)
    write : In(stream of `write_burst_layout`)
        One burst for each that a job writes, in order.
    credit : In(1)
        A place has become free in this cycle.
    hold : In(1)
        No refresh where it can be put off: a composite is under way.
    dram : Out(`DramPort`)
    read : Out(1), wrote : Out(1), stored : Out(1)
        A burst is read, written, the last one of a job written, in this cycle.
    managed : Out(1)
        A job without bursts is done.
    idle : Out(1)
        No job.
    slack : Out
        Refreshes that may still be put off, of the bank that has the fewest.
    stall_row, stall_refresh, stall_credit : Out(1)
        Why no burst goes out in this cycle though there is a job: its row is not open, is being refreshed, or there is no place.

    Raises
    ------
    ConfigError
        If a parameter is out of its range.
    """

    def __init__(self, *, timing: DramTiming, interval: int, streams: int, phases: int, rows: int, credits: int,
                 lookahead: int = 3, same_bank: bool = False, stripes: int = 1):
        closest = min(timing.rcd_mac, timing.rcd_write, timing.rp, timing.rtp_l, timing.ras, interval)
        for name, value, low, high in (("streams", streams, 1, timing.all_banks), ("phases", phases, 1, closest),
                                       ("rows", rows, 1, 1 << 16), ("credits", credits, 1, 256), ("lookahead", lookahead, 1, 8)):
            if not low <= value <= high:
                raise ConfigError(f"RowEngine.{name} must be between {low} and {high}, not {value!r}")
        if timing.all_banks % streams:
            raise ConfigError(f"RowEngine.streams must be a divisor of the {timing.all_banks} banks, not {streams!r}")
        if stripes not in (1, 2) or (stripes == 2 and (streams > 1 or same_bank or timing.bank_groups < 2)):
            raise ConfigError(f"RowEngine.stripes must be 1, or 2 with one stream, bank groups and refreshes by rank, "
                              f"not {stripes!r}")
        self.stripes = stripes
        self.timing, self.streams, self.phases, self.credits, self.lookahead = timing, streams, phases, credits, lookahead
        self.interval = max(interval, timing.ccd_l if stripes == 1 else timing.ccd_s)
        self.same_bank = same_bank
        self.sets = timing.all_banks // streams
        self.job = row_job_layout(sets=self.sets // stripes, rows=rows, columns=timing.columns * stripes)
        super().__init__({
            "i": In(stream.Signature(self.job)),
            "write": In(stream.Signature(write_burst_layout(streams, timing.burst_bytes))),
            "credit": In(1), "hold": In(1),
            "dram": Out(DramPort(streams=streams, burst_bytes=timing.burst_bytes, sets=self.sets, rows=rows,
                                 columns=timing.columns, phases=phases)),
            "read": Out(1), "wrote": Out(1), "stored": Out(1), "managed": Out(1), "idle": Out(1), "slack": Out(4),
            "stall_row": Out(1), "stall_refresh": Out(1), "stall_credit": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dram, sets = self.dram, self.sets
        m.submodules.timers = timers = RowTimers(timing=self.timing, interval=self.interval, sets=sets, phases=self.phases,
                                                 row_bits=len(dram.row_row), apart=self.stripes > 1)
        m.submodules.refresher = refresher = Refresher(timing=self.timing, streams=self.streams, phases=self.phases,
                                                       same_bank=self.same_bank)
        slots = [Signal(self.job, name=f"job_{index}") for index in range(self.lookahead)]
        valid = [Signal(name=f"job_{index}_valid") for index in range(self.lookahead)]
        first = slots[0]
        started = Signal()

        # What each job finds, in the sets that it is for.
        stripes, log2 = self.stripes, ceil_log2(self.stripes)
        hit, blocked, found = [], [], []
        for index, (slot, taken) in enumerate(zip(slots, valid, strict=True)):
            waits = Signal(name=f"blocked_{index}")
            own = [Cat(C(stripe, log2), slot.set) for stripe in range(stripes)]
            m.d.comb += waits.eq(refresher.blocks.bit_select(own[0], 1))
            there = Signal(stripes, name=f"hit_{index}")
            m.d.comb += [there[stripe].eq(taken & timers.open.bit_select(place, 1) & (timers.rows[place] == slot.row))
                         for stripe, place in enumerate(own)]
            found.append(there)
            hit.append(there.all())
            blocked.append(waits)

        # Row command: the refresh's, else that of the first job which needs one and whose time has come.
        needs, possible = Signal(self.lookahead * stripes), Signal(self.lookahead * stripes)
        chosen = Signal(range(self.lookahead * stripes))
        ready_act, ready_pre = timers.can_activate, timers.can_precharge
        places = []
        for index, slot in enumerate(slots):
            before = [valid[earlier] & (slots[earlier].set == slot.set) for earlier in range(index)]
            closes, refreshes = slot.kind == RowJob.CLOSE, slot.kind == RowJob.REFRESH
            wanted = refresher.wanted.bit_select(Cat(C(0, log2), slot.set), 1) if index else C(0, 1)
            for stripe in range(stripes):
                number, place = index * stripes + stripe, Cat(C(stripe, log2), slot.set)
                places.append((place, slot.row))
                is_open = timers.open.bit_select(place, 1)
                m.d.comb += [
                    needs[number].eq(valid[index] & ~blocked[index] & ~wanted & ~Cat(before).any()
                                     & Mux(closes, is_open & (index == 0), ~found[index][stripe] & ~refreshes)),
                    possible[number].eq(needs[number] & Mux(is_open, ready_pre.bit_select(place, 1),
                                                            ready_act.bit_select(place, 1))),
                ]
        place, row = Signal.like(dram.row_set), Signal.like(dram.row_row)
        for number in reversed(range(self.lookahead * stripes)):
            with m.If(possible[number]):
                m.d.comb += chosen.eq(number)
        m.d.comb += [place.eq(Array(place for place, _ in places)[chosen]), row.eq(Array(row for _, row in places)[chosen])]
        opens = Signal()
        m.d.comb += opens.eq(~timers.open.bit_select(place, 1))
        activate = DramCommand.ACTM if self.streams > 1 else DramCommand.ACT
        with m.If(refresher.command):
            m.d.comb += [dram.row_valid.eq(1), dram.row_op.eq(refresher.op), dram.row_set.eq(refresher.set),
                         dram.row_bank.eq(refresher.bank), dram.row_whole.eq(refresher.whole),
                         dram.row_phase.eq(timers.bus_phase)]
        with m.Else():
            m.d.comb += [dram.row_valid.eq(possible.any()), dram.row_op.eq(Mux(opens, activate, DramCommand.PRE)),
                         dram.row_set.eq(place), dram.row_row.eq(row),
                         dram.row_phase.eq(Mux(opens, timers.activate_phase[place], timers.precharge_phase[place]))]

        # Column command, of the first job alone.
        credits = Signal(range(self.credits + 1), init=self.credits)
        clear = ~(dram.row_valid if same_bus(self.timing) else C(0, 1))
        can = Signal()
        go = Signal()
        source = Signal.like(dram.col_set)
        m.d.comb += source.eq(Cat(first.column[:log2], first.set))
        m.d.comb += [
            can.eq(hit[0] & ~blocked[0] & clear & (first.kind == RowJob.BURSTS)
                   & Mux(first.write, timers.can_write, timers.can_read).bit_select(source, 1)),
            self.read.eq(can & ~first.write & (credits != 0)),
            self.wrote.eq(can & first.write & self.write.valid),
            self.write.ready.eq(self.wrote),
            go.eq(self.read | self.wrote),
            dram.col_valid.eq(go),
            dram.col_op.eq(Mux(first.write, DramCommand.WR, DramCommand.MAC if self.streams > 1 else DramCommand.RD)),
            dram.col_set.eq(source), dram.col_column.eq(first.column >> log2),
            dram.col_phase.eq(Mux(first.write, timers.write_phase[source], timers.read_phase[source])),
            dram.wdata.eq(self.write.payload.data), dram.wmask.eq(self.write.payload.mask),
            self.stall_credit.eq(can & ~first.write & (credits == 0)),
            self.stall_refresh.eq(valid[0] & blocked[0]),
            self.stall_row.eq(valid[0] & ~blocked[0] & ~hit[0]),
        ]
        m.d.sync += credits.eq(credits + self.credit - self.read)

        # The queue of jobs.
        pop = Signal()
        stays = [Mux(pop, valid[index + 1] if index + 1 < self.lookahead else 0, valid[index]) for index in range(self.lookahead)]
        is_open = timers.open.word_select(first.set, stripes).any()
        with m.Switch(first.kind):
            with m.Case(RowJob.OPEN):
                m.d.comb += self.managed.eq(hit[0] & ~blocked[0])
            with m.Case(RowJob.CLOSE):
                m.d.comb += self.managed.eq(valid[0] & ~is_open)
            with m.Case(RowJob.REFRESH):
                m.d.comb += self.managed.eq(refresher.served)
        m.d.comb += [pop.eq((go & (first.bursts == 0)) | self.managed), self.i.ready.eq(~stays[-1]), self.idle.eq(~valid[0]),
                     self.stored.eq(pop & self.wrote)]
        with m.If(go):
            m.d.sync += [first.column.eq(first.column + 1), first.bursts.eq(first.bursts - 1), started.eq(~pop)]
        for index, slot in enumerate(slots):
            place = ~stays[index] & (stays[index - 1] if index else 1)
            m.d.sync += valid[index].eq(stays[index] | (place & self.i.valid))
            with m.If(place):
                m.d.sync += slot.eq(self.i.payload)
            with m.Elif(pop):
                m.d.sync += slot.eq(slots[min(index + 1, self.lookahead - 1)])

        # Timers and refreshes follow the commands.
        m.d.comb += [timers.row_cmd.eq(dram.row_valid), timers.row_op.eq(dram.row_op), timers.row_set.eq(dram.row_set),
                     timers.row_row.eq(dram.row_row), timers.row_phase.eq(dram.row_phase),
                     timers.whole.eq(dram.row_whole | (dram.row_op == DramCommand.REF)), timers.last.eq(refresher.last),
                     timers.read.eq(self.read), timers.wrote.eq(self.wrote), timers.col_set.eq(source),
                     timers.col_phase.eq(dram.col_phase)]
        in_use = Signal(sets)
        for index in range(sets):
            m.d.comb += in_use[index].eq(
                Cat(taken & (slot.set == index // stripes) for slot, taken in zip(slots, valid, strict=True)).any())
        m.d.comb += [
            refresher.open.eq(timers.open), refresher.closable.eq(timers.closable), refresher.settled.eq(timers.settled),
            refresher.asked.eq(Mux(valid[0] & (first.kind == RowJob.REFRESH), 1 << Cat(C(0, log2), first.set), 0)),
            refresher.in_use.eq(in_use), refresher.hold.eq(self.hold), self.slack.eq(refresher.slack),
            refresher.busy.eq(Mux(started, Cat(valid[0] & (first.set == index // stripes) for index in range(sets)), 0)),
        ]
        return m
