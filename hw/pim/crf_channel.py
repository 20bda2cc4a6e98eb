"""HBM-PIM's pseudo-channel: DRAM commands of a host become accesses, configuration, or micro-instructions of all units."""

from enum import IntEnum
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.memory.fifo import StreamFIFO
from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CrfOpcode, HostAccess, Operand, PimMode
from hw.pim.crf_program import CrfProgram
from hw.pim.crf_unit import CRF_BURST, CrfUnit, crf_step_layout
from hw.pim.ports import DramPort, RowJob
from hw.pim.row_engine import RowEngine
from hw.pim.timing import DramTiming
from hw.share import shared

__all__ = ["CrfChannel", "CrfFault", "crf_access_layout"]

_ROW, _COLUMN = 14, 5
_LOOKAHEAD = 3
_BANKS = (Operand.EVEN_BANK, Operand.ODD_BANK)


class CrfFault(IntEnum):
    """Why a command was refused."""

    NONE = 0
    ROW_OPEN = 1        # ACT where a row is open
    ROW_CLOSED = 2      # RD or WR without one
    PIM_ON = 3          # HAB mode left, or the CRF written, while PIM mode is on
    SINGLE_BANK = 4     # the configuration row written in SB mode
    COLUMN = 5          # a column of the configuration row that is for nothing
    PROGRAM = 6         # PIM mode turned on with a program that cannot run
    BANK = 7            # an instruction of the bank that is not addressed


def crf_access_layout(units: int) -> data.StructLayout:
    """Return the layout of a host's command: a `HostAccess`; row of ACT; of RD and WR column, odd bank, unit (SB mode), data."""
    return data.StructLayout({"kind": 2, "row": _ROW, "column": _COLUMN, "odd": 1, "unit": ceil_log2(units), "data": CRF_BURST})


class CrfChannel(wiring.Component):
    """Units of one pseudo-channel, each between an even and an odd bank, in lock step.

    Modes and reserved rows as in `hw.pim.crf`; what a column command does in PIM mode, `CrfProgram` says. Those that have no bank
    to write read one, so that every instruction is a column command of the DRAM too; the row engine opens rows when they are
    used, keeps the times, and refreshes. Commands are taken one a cycle, but those that write a bank; one that writes registers,
    or a bank from them, waits for the instructions before.

    So with as many `phases` as the interval has clocks, an instruction runs every interval, JUMPs or not (`CrfProgram`). Only one
    that multiplies what the one before it has added up (`CrfUnit`) comes a cycle later, two if DRAM data of the phase in which
    that one was read come late.

    The host names rows of 14 bits; a refused command does nothing.

    Parameters
    ----------
    timing : DramTiming
    interval : int
        DRAM clocks from one column command to the next.
    units : int
    phases : int
        DRAM clocks in a cycle, at most the interval.

    Members
    -------
    i : In(stream of `crf_access_layout`)
    rvalid : Out(1), rdata : Out(256)
        Bursts of RD outside of PIM mode, in order.
    fault : Out(3)
        The `CrfFault` of the last command that was refused.
    refused : Out(1)
        A pulse, one cycle after that command was taken.
    mode : Out(2)
        A `PimMode`.
    idle : Out(1)
        Nothing is under way.
    executed : Out(1)
        A pulse for each instruction.
    dram : Out(`DramPort`)
        Set 0 has the even banks, set 1 the odd ones.

    Raises
    ------
    ConfigError
        If a cycle is longer than the interval.

    Reference
    ---------
    Lee et al., ISCA 2021, and the public documents and simulator of HBM-PIM. How we differ: the golden model
    (`sw.golden.pim.hbm_pim`) says.
    """

    def __init__(self, *, timing: DramTiming, interval: int, units: int, phases: int):
        if not 1 <= phases <= interval:
            raise ConfigError(f"CrfChannel.phases must be between 1 and {interval}, the interval, not {phases!r}")
        self.units = units
        self._access = crf_access_layout(units)
        # Bursts on their way: as many cycles as they take, and those in the queues before and behind the DRAM.
        latency = timing.cl + timing.bl
        self._in_flight = -(-latency // phases) + _LOOKAHEAD + 3
        self._last_early = -latency % phases        # data of reads in later phases come a cycle later
        self._rows = RowEngine(timing=timing, interval=interval, streams=units, phases=phases, rows=1 << _ROW,
                               credits=self._in_flight, lookahead=_LOOKAHEAD)
        super().__init__({
            "i": In(stream.Signature(self._access)), "rvalid": Out(1), "rdata": Out(CRF_BURST), "fault": Out(3),
            "refused": Out(1), "mode": Out(2), "idle": Out(1), "executed": Out(1),
            "dram": Out(DramPort(streams=units, burst_bytes=timing.burst_bytes, sets=self._rows.sets, rows=1 << _ROW,
                                 columns=timing.columns, phases=phases)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.rows, m.submodules.crf = rows, program = self._rows, CrfProgram()
        wiring.connect(m, rows.dram, wiring.flipped(self.dram))
        asked = data.StructLayout({"host": 1, "last": 1, "unit": len(self.i.p.unit), "step": crf_step_layout()})
        m.submodules.pending = pending = StreamFIFO(shape=asked, depth=self._in_flight)
        command = Signal(self._access)
        row, opened = Signal(_ROW), Signal()
        touched = Signal(2)                         # banks, even and odd, that were read or written since then
        m.d.comb += [rows.credit.eq(self.dram.rvalid), pending.o.ready.eq(self.dram.rvalid)]

        # Reads come back: to the host, or as the bank's operand of an instruction.
        step, bursts = Signal(crf_step_layout()), Signal(self.units * CRF_BURST)
        starts = Signal()
        back = pending.o.p
        m.d.sync += [starts.eq(self.dram.rvalid & ~back.host & ~back.last), self.rvalid.eq(self.dram.rvalid & back.host),
                     self.rdata.eq(self.dram.rdata.word_select(back.unit, CRF_BURST))]
        with m.If(self.dram.rvalid & ~back.host):
            m.d.sync += [bursts.eq(self.dram.rdata), step.eq(back.step)]
        units = [CrfUnit() for _ in range(self.units)]
        sets, clears = Signal(), Signal()
        configured = Signal(_COLUMN)
        for index, unit in enumerate(units):
            m.submodules[f"unit_{index}"] = shared(platform, "pim_crf_unit", unit)
            m.d.comb += [
                unit.start.eq(starts), unit.step.eq(step), unit.bank.eq(bursts.word_select(index, CRF_BURST)),
                unit.set.valid.eq(sets), unit.set.data.eq(command.data), unit.clear.eq(clears),
                unit.set.scalars.eq(_among(configured, "srf")), unit.set.odd.eq(_among(configured, "grf_b")),
                unit.set.at.eq(configured[:3]),
            ]
        waiting = Signal(range(self._in_flight + 2))
        m.d.sync += waiting.eq(waiting + (pending.i.valid & pending.i.ready) - self.dram.rvalid)
        quiet = (waiting == 0) & ~starts & ~units[0].busy

        instruction = program.instruction
        low = command.column[:3]
        of_mac = Cat(command.column[3:5], row[0])
        wrong_bank = Signal()
        sources = self._sources(instruction)
        writes_bank = (instruction.opcode == CrfOpcode.MOV) & Cat(instruction.dst == bank for bank in _BANKS).any()
        from_bank = writes_bank & Cat(instruction.src0 == bank for bank in _BANKS).any()
        addressed = Mux(command.odd, Operand.ODD_BANK, Operand.EVEN_BANK)
        m.d.comb += wrong_bank.eq(
            Cat(used & Cat(operand == bank for bank in _BANKS).any() & (operand != addressed)
                for used, operand in sources).any())

        job, write = rows.i, rows.write
        bank, kind, writes = Signal.like(job.p.set), Signal(RowJob), Signal()
        fields = {"set": bank, "row": row, "column": command.column, "write": writes, "kind": kind}
        m.d.comb += [
            # In one piece: a part that never changes would be a process without events in Verilog.
            job.p.as_value().eq(Cat(fields.get(name, C(0, field.width)) for name, field in self._rows.job)), bank.eq(command.odd),
            pending.i.p.unit.eq(command.unit), pending.i.p.step.instruction.eq(instruction), pending.i.p.step.low.eq(low),
            pending.i.p.step.of_mac.eq(of_mac), configured.eq(command.column),
            write.p.data.eq(command.data.replicate(self.units)), write.p.mask.eq((1 << self.units) - 1),
        ]
        # An instruction that multiplies the last sum must be two cycles behind: so its job goes out in the cycle after the read.
        hazard, unread, late = Signal(), Signal(range(_LOOKAHEAD + 2)), Signal()
        m.d.comb += hazard.eq(self._multiplies_sum(m, instruction, low, of_mac, program.take))
        m.d.sync += [unread.eq(unread + (pending.i.valid & pending.i.ready) - rows.read),
                     late.eq(rows.read & (rows.dram.col_phase > self._last_early))]
        with m.If(job.valid & job.ready & (kind == RowJob.BURSTS)):
            m.d.sync += touched.bit_select(command.odd, 1).eq(1)
        follows = (unread == 0) & ~late

        in_pim = self.mode == PimMode.HAB_PIM
        is_write = command.kind == HostAccess.WR
        is_config = is_write & (row == BANK_ROWS["config"])

        def refuse(fault: CrfFault) -> None:
            m.d.sync += [self.fault.eq(fault), self.refused.eq(1)]
            m.next = "rest"

        def accept() -> None:
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += command.eq(self.i.p)
            m.next = "rest"
            with m.If(self.i.valid):
                m.next = "command"

        m.d.sync += self.refused.eq(0)
        with m.FSM(name="host") as machine:
            with m.State("rest"):
                accept()
            with m.State("command"):
                with m.Switch(command.kind):
                    with m.Case(HostAccess.ACT):
                        with m.If(opened):
                            refuse(CrfFault.ROW_OPEN)
                        with m.Else():
                            m.d.sync += [opened.eq(1), row.eq(command.row)]
                            accept()
                    with m.Case(HostAccess.PRE):
                        leaves = opened & (row == BANK_ROWS["exit_hab"])
                        with m.If(leaves & in_pim):
                            refuse(CrfFault.PIM_ON)
                        with m.Else():
                            # The row engine would close it only when it needs another one, which may be later.
                            m.d.comb += [job.valid.eq(touched.any()), kind.eq(RowJob.CLOSE), bank.eq(~touched[0])]
                            with m.If(job.ready):
                                m.d.sync += touched.eq(Mux(touched[0], touched & 0b10, 0))
                            with m.If(~touched.any() | (job.ready & ~touched.all())):
                                m.d.sync += opened.eq(0)
                                accept()
                                with m.If(leaves):
                                    m.d.sync += self.mode.eq(PimMode.SB)
                                with m.Elif(opened & (row == BANK_ROWS["enter_hab"]) & (self.mode == PimMode.SB)):
                                    m.d.sync += self.mode.eq(PimMode.HAB)
                    with m.Default():
                        with m.If(~opened):
                            refuse(CrfFault.ROW_CLOSED)
                        with m.Elif(is_config):
                            with m.If(self.mode == PimMode.SB):
                                refuse(CrfFault.SINGLE_BANK)
                            with m.Elif(~Cat(_among(configured, name) for name in CONFIG_COLUMNS).any()):
                                refuse(CrfFault.COLUMN)
                            with m.Elif(_among(configured, "crf") & in_pim):
                                refuse(CrfFault.PIM_ON)
                            with m.Elif(quiet & _among(configured, "mode")):
                                m.next = "mode"
                            with m.Elif(quiet):
                                of_program = _among(configured, "crf")
                                m.d.comb += [sets.eq(~of_program), program.write.valid.eq(of_program)]
                                accept()
                        with m.Elif(in_pim):
                            with m.If(program.ended):
                                accept()
                            with m.Elif(~program.valid):
                                m.next = "command"
                            with m.Elif(instruction.opcode == CrfOpcode.EXIT):
                                m.d.comb += program.take.eq(1)
                                accept()
                            with m.Elif((instruction.opcode != CrfOpcode.NOP) & wrong_bank):
                                refuse(CrfFault.BANK)
                            with m.Elif(writes_bank):
                                with m.If(quiet):
                                    m.d.sync += [step.instruction.eq(instruction), step.low.eq(low)]
                                    m.next = "move"
                                    with m.If(from_bank):
                                        m.next = "fetch"
                            with m.Elif(~hazard | follows):
                                with m.If(self._issue(m, job, pending)):
                                    m.d.comb += program.take.eq(1)
                                    accept()
                        with m.Elif(is_write):
                            m.next = "store"
                        with m.Else():
                            m.d.comb += pending.i.p.host.eq(1)
                            with m.If(self._issue(m, job, pending)):
                                accept()
            with m.State("mode"):
                with m.If(command.data[0]):
                    m.d.comb += program.start.eq(1)
                    m.next = "check"
                with m.Else():
                    m.d.comb += clears.eq(command.data[8])
                    m.d.sync += self.mode.eq(PimMode.HAB)
                    m.next = "rest"
            with m.State("check"):
                with m.If(program.bad):
                    refuse(CrfFault.PROGRAM)
                with m.Elif(program.good):
                    m.d.comb += clears.eq(command.data[8])
                    m.d.sync += self.mode.eq(PimMode.HAB_PIM)
                    m.next = "rest"
            with m.State("store"):
                with m.If(self.mode == PimMode.SB):
                    m.d.comb += write.p.mask.eq(1 << command.unit)
                self._store(m, job, write, writes)
            with m.State("fetch"):              # a MOV from a bank to itself
                m.d.comb += pending.i.p.last.eq(1)
                with m.If(self._issue(m, job, pending)):
                    m.next = "fetched"
            with m.State("fetched"):
                with m.If(quiet):
                    m.next = "move"
            with m.State("move"):
                m.d.comb += write.p.data.eq(Cat(unit.moved for unit in units))
                self._store(m, job, write, writes, takes=program.take)
            m.d.comb += self.idle.eq(machine.ongoing("rest") & quiet & rows.idle)
        m.d.comb += [program.write.at.eq(configured), program.write.data.eq(command.data),
                     self.executed.eq(program.take & (instruction.opcode != CrfOpcode.EXIT))]
        return m

    @staticmethod
    def _sources(instruction: Any) -> list[tuple[Value, Value]]:
        """Return the operands that may be banks, and whether the instruction has them."""
        two = Cat(instruction.opcode == one for one in (CrfOpcode.ADD, CrfOpcode.MUL, CrfOpcode.MAC, CrfOpcode.MAD)).any()
        return [(C(1), instruction.src0), (two, instruction.src1), (instruction.opcode == CrfOpcode.MOV, instruction.dst)]

    @staticmethod
    def _multiplies_sum(m: Module, instruction: Any, low: Value, of_mac: Value, take: Value) -> Value:
        """Return whether an instruction multiplies what the one before it, which was taken last, has added up."""
        opcode = instruction.opcode
        is_mac = opcode == CrfOpcode.MAC
        sums = (opcode == CrfOpcode.ADD) | is_mac | (opcode == CrfOpcode.MAD)
        factors = (opcode == CrfOpcode.MUL) | is_mac | (opcode == CrfOpcode.MAD)
        summed, where, at = Signal(), Signal.like(instruction.dst), Signal.like(low)
        with m.If(take):
            m.d.sync += [summed.eq(sums), where.eq(instruction.dst),
                         at.eq(Mux(instruction.auto, Mux(is_mac, of_mac, low), instruction.dst_index[:3]))]
        return summed & factors & Cat(
            (operand == where) & (Mux(instruction.auto, low, index[:3]) == at)
            for operand, index in ((instruction.src0, instruction.src0_index), (instruction.src1, instruction.src1_index))).any()

    @staticmethod
    def _issue(m: Module, job: Any, pending: Any) -> Value:
        """Read the burst that is addressed; return whether the row engine takes that now."""
        m.d.comb += [job.valid.eq(pending.i.ready), pending.i.valid.eq(job.ready)]
        return job.ready & pending.i.ready

    @staticmethod
    def _store(m: Module, job: Any, write: Any, writes: Signal, *, takes: Signal | None = None) -> None:
        """Write it: the job at once, its burst when the row engine takes it."""
        given = Signal()
        m.d.comb += [writes.eq(1), job.valid.eq(~given), write.valid.eq(1)]
        with m.If(job.ready):
            m.d.sync += given.eq(1)
        with m.If(write.ready):
            m.d.sync += given.eq(0)
            if takes is not None:
                m.d.comb += takes.eq(1)
            m.next = "rest"


def _among(column: Value, name: str) -> Value:
    """Return whether a column of the configuration row is of that name."""
    columns = CONFIG_COLUMNS[name]
    below = column < columns.stop
    return below & (column >= columns.start) if columns.start else below
