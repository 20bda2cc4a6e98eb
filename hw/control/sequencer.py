"""The sequencer: executes instructions, fills descriptors, and puts commands into the queues."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.control.command_check import CommandCheck
from hw.control.fetch import InstructionPort, instruction_layout
from hw.control.loops import LoopStack
from hw.control.queue import PC_WIDTH, command_layout
from hw.control.register_file import RegisterFile
from hw.control.semaphores import AcquirePort
from hw.isa import (
    ARGUMENTS,
    DESCRIPTORS,
    DESTINATIONS,
    FIRST_ARGUMENT,
    OPCODES,
    REGISTERS,
    SEMAPHORES,
    ErrorCause,
    Opcode,
    Unit,
    destination,
)
from hw.ports import ErrorReport, descriptor_layout
from hw.protect.domains import NONE
from hw.timing import START_CYCLES

__all__ = ["Sequencer"]

_DECODE = data.StructLayout({"word": instruction_layout, "pc": PC_WIDTH, "beyond": 1, "fault": 1})
_FIELD_WIDTHS = {destination(unit, field.name): field.width for unit, fields in DESCRIPTORS.items() for field in fields}

_LIMITS = sorted({*_FIELD_WIDTHS.values()} - {32})
"""Widths that a result can be too wide for."""
_OPERATION = {"opcode": 8, "a": 8, "imm": 32, "pc": PC_WIDTH, "cause": 8, "alu": 1, "writes": 1, "limits": len(_LIMITS)}
_COMPUTE = data.StructLayout({**_OPERATION, "x": 32, "y": 32})
_COMMIT = data.StructLayout({**_OPERATION, "result": 32})


def _opcodes(kind: str) -> list[Opcode]:
    return [opcode for opcode, info in OPCODES.items() if info.kind == kind]


class Sequencer(wiring.Component):
    """Scalar processor of three stages: *decode* reads registers and goes back at END, *compute* has the arithmetic, *commit*
    does whatever can be seen: it writes registers and descriptors, opens loops, queues commands, waits, and finds what is wrong.

    Starting takes `hw.timing.START_CYCLES`, in which registers are cleared and the arguments copied. Then an instruction that is
    in the cache takes one cycle, and one more if it reads the register that the instruction before it writes. Instructions after
    a LOOP are taken before it is known whether it runs: `hw.timing.SKIP_CYCLES` are lost if it does not. An END comes at least
    `hw.timing.LOOP_CYCLES` after its LOOP, and one cycle is lost when it goes back. A GO waits for room in its queue, WAIT for
    its semaphores, FENCE and HALT for `idle`.
    Errors are precise: every instruction before the one at fault has executed, none after it.

    Unused fields of an instruction are ignored; a register field above 31 that is used is illegal, and so is a result that does
    not fit its descriptor field. ERROR_ADDR is the opcode, the program counter where that left the program, that result, or with
    COMMAND_PARITY a bit for each check that fails.

    Parameters
    ----------
    parity : bool
        Instructions have check bits (`hw.isa`).
    protection : str
        What guards the memories of registers and loops: "none", "parity" or "secded".

    Members
    -------
    start : In(1)
        Begin at instruction 0 with cleared registers and descriptors, and `arguments` in r16 to r31.
    run : In(1)
        While low, nothing is executed, and the state stays.
    arguments : In(16 × 32 bits)
        Must stay for as long as `starting` is high.
    starting : Out(1)
    instruction : Out(InstructionPort)
    load, matrix, vector, store : Out(stream of `command_layout(unit)`)
        Commands to the queues.
    acquire : Out(AcquirePort), signal : Out(SEMAPHORES)
        WAIT and SIGNAL.
    idle : In(1)
        Every queue is empty and every unit idle, the commands of all cycles before this one included.
    executed : Out(1)
        Pulse for each instruction executed.
    halted : Out(1)
        HALT is executed in this cycle.
    waiting : Out(1)
        A WAIT waits for its semaphores.
    pc : Out(32)
        The oldest instruction that has not been executed.
    error : Out(1), report : Out(ErrorReport)
        The instruction at `pc` cannot be executed; until `start`.
    """

    def __init__(self, *, parity: bool = False, protection: str = NONE):
        self._parity, self._protection = parity, protection
        super().__init__({
            "start": In(1),
            "run": In(1),
            "arguments": In(data.ArrayLayout(32, ARGUMENTS)),
            "starting": Out(1),
            "instruction": Out(InstructionPort()),
            **{unit.name.lower(): Out(stream.Signature(command_layout(unit))) for unit in Unit},
            "acquire": Out(AcquirePort()),
            "signal": Out(SEMAPHORES),
            "idle": In(1),
            "executed": Out(1),
            "halted": Out(1),
            "waiting": Out(1),
            "pc": Out(PC_WIDTH),
            "error": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.registers = registers = RegisterFile(protection=self._protection)
        m.submodules.loops = loops = LoopStack(protection=self._protection)
        fetch = self.instruction

        decode = Signal(_DECODE)
        compute = Signal(_COMPUTE)
        commit = Signal(_COMMIT)
        decode_valid = Signal()
        compute_valid = Signal()
        commit_valid = Signal()
        word = decode.word
        accept, issue, proceed = Signal(), Signal(), Signal()       # decode, compute and commit take an instruction
        finished, skip = Signal(), Signal()                         # commit is done with its own; it is a LOOP that does not run

        # Start: clear the registers and copy the arguments, one register a cycle.
        index = Signal(range(START_CYCLES))
        is_argument = index >= FIRST_ARGUMENT
        with m.If(self.start):
            m.d.sync += [self.starting.eq(1), index.eq(0)]
        with m.Elif(self.starting):
            m.d.sync += [index.eq(index + 1), self.starting.eq(index != START_CYCLES - 1)]

        # Fetch: what is looked up is kept for decode. Beyond the program, or where a line could not be read, the look-up stays.
        m.d.comb += [
            accept.eq((fetch.hit | fetch.beyond | fetch.fault) & (~decode_valid | issue)),
            fetch.next_pc.eq(fetch.pc),
        ]
        with m.If(self.start):
            m.d.comb += fetch.next_pc.eq(0)
        with m.Elif(skip):
            m.d.comb += fetch.next_pc.eq(commit.imm)
        with m.Elif(loops.end & loops.again):
            m.d.comb += fetch.next_pc.eq(loops.start)
        with m.Elif(accept & ~fetch.beyond & ~fetch.fault):
            m.d.comb += fetch.next_pc.eq(fetch.following)
        with m.If(self.start | skip | (loops.end & loops.again)):
            m.d.sync += decode_valid.eq(0)
        with m.Elif(accept | issue):
            m.d.sync += decode_valid.eq(accept)
        with m.If(accept):
            m.d.sync += [
                decode.word.eq(fetch.word), decode.pc.eq(fetch.pc), decode.beyond.eq(fetch.beyond), decode.fault.eq(fetch.fault),
            ]

        # Decode. A register that commit is about to write is taken from there.
        cause, addr, uses_c, hazard = Signal(8), Signal(32), Signal(), Signal()
        is_alu, limits = Signal(), Signal(len(_LIMITS))
        first, second, third = Signal(32), Signal(32), Signal(32)
        number_c = word.c[:ceil_log2(REGISTERS)] if self._parity else word.c       # without the check bits
        bad_b, bad_c = word.b >= REGISTERS, number_c >= REGISTERS
        m.d.comb += [
            cause.eq(ErrorCause.ILLEGAL_INSTRUCTION),
            addr.eq(word.opcode),
            registers.b.eq(word.b),
            registers.c.eq(number_c),
            first.eq(registers.b_data),
            third.eq(registers.c_data),
            second.eq(word.imm + third),
        ]
        if self._protection != NONE:
            m.d.comb += registers.used.eq(issue)
        for operand, number in ((first, word.b), (third, number_c)):
            with m.If(commit_valid & commit.writes & (commit.a == number)):
                m.d.comb += operand.eq(commit.result)
        with m.If(decode.beyond):
            m.d.comb += [cause.eq(ErrorCause.PROGRAM_COUNTER), addr.eq(decode.pc)]
        with m.Elif(decode.fault):
            m.d.comb += [cause.eq(ErrorCause.BUS_FETCH), addr.eq(fetch.fault_addr)]
        with m.Else():
            with m.Switch(word.opcode):
                with m.Case(*_opcodes("alu")):
                    m.d.comb += [uses_c.eq(1), is_alu.eq(1)]
                    with m.If(~bad_b & ~bad_c & (word.a < len(DESTINATIONS))):
                        m.d.comb += cause.eq(ErrorCause.NONE)
                with m.Case(Opcode.LOOP):
                    m.d.comb += second.eq(word.imm[:16])
                    with m.If(~bad_b):
                        m.d.comb += cause.eq(ErrorCause.NONE)
                with m.Case(Opcode.END):
                    m.d.comb += cause.eq(Mux(loops.empty, ErrorCause.LOOP_STACK, ErrorCause.NONE))
                with m.Case(*(op for op in OPCODES if OPCODES[op].kind not in ("alu", "loop") and op != Opcode.END)):
                    m.d.comb += cause.eq(ErrorCause.NONE)
        if self._parity:
            m.submodules.check = check = CommandCheck()
            m.d.comb += [check.word.eq(word), check.pc.eq(decode.pc)]
            with m.If(check.failing.any() & ~decode.beyond & ~decode.fault):
                m.d.comb += [cause.eq(ErrorCause.COMMAND_PARITY), addr.eq(check.failing)]
        with m.Switch(word.a):
            for number, width in enumerate(_LIMITS):
                with m.Case(*(field for field, of in _FIELD_WIDTHS.items() if of == width)):
                    m.d.comb += limits[number].eq(is_alu)
        opening = (compute_valid & (compute.opcode == Opcode.LOOP)) | (commit_valid & (commit.opcode == Opcode.LOOP))
        m.d.comb += [
            hazard.eq((compute_valid & compute.writes & ((compute.a == word.b) | (uses_c & (compute.a == number_c))))
                      | ((word.opcode == Opcode.END) & opening)),
            proceed.eq(~commit_valid | finished),
            issue.eq(decode_valid & self.run & ~self.starting & ~hazard & (~compute_valid | proceed) & ~skip),
            loops.clear.eq(self.start),
            loops.end.eq(issue & (cause == ErrorCause.NONE) & (word.opcode == Opcode.END)),
        ]
        with m.If(issue):
            m.d.sync += [
                compute.opcode.eq(word.opcode), compute.a.eq(word.a), compute.imm.eq(word.imm), compute.pc.eq(decode.pc),
                compute.cause.eq(cause), compute.alu.eq(is_alu), compute.limits.eq(limits),
                compute.writes.eq(is_alu & (word.a < REGISTERS) & (word.a != 0)),
                compute.x.eq(first), compute.y.eq(Mux(cause == ErrorCause.NONE, second, addr)),
            ]
        with m.If(self.start | skip):
            m.d.sync += compute_valid.eq(0)
        with m.Elif(issue | proceed):
            m.d.sync += compute_valid.eq(issue)

        # Compute.
        x, y = compute.x, compute.y
        result = Signal(32)
        m.d.comb += result.eq(x + y)
        with m.Switch(compute.opcode):
            with m.Case(Opcode.SUB):
                m.d.comb += result.eq(x - y)
            with m.Case(Opcode.MIN):
                m.d.comb += result.eq(Mux(x < y, x, y))
            with m.Case(Opcode.MAX):
                m.d.comb += result.eq(Mux(x < y, y, x))
            with m.Case(Opcode.AND):
                m.d.comb += result.eq(x & y)
            with m.Case(Opcode.XOR):
                m.d.comb += result.eq(x ^ y)
            with m.Case(Opcode.SHL):
                m.d.comb += result.eq(x << y[:5])
            with m.Case(Opcode.SHR):
                m.d.comb += result.eq(x >> y[:5])
        with m.If(compute.cause != ErrorCause.NONE):
            m.d.comb += result.eq(y)
        with m.If(proceed):
            m.d.sync += [commit[name].eq(compute[name]) for name in _OPERATION]
            m.d.sync += commit.result.eq(result)
            with m.If(compute.opcode == Opcode.LOOP):       # where it goes on if it does not run: pc + 1 + length, in one adder
                m.d.sync += commit.imm.eq(compute.pc - ~Cat(compute.imm[16:], Const(0, 16)))
        with m.If(self.start | skip):
            m.d.sync += commit_valid.eq(0)
        with m.Elif(proceed):
            m.d.sync += commit_valid.eq(compute_valid)

        # Commit.
        ready = Signal(init=1)
        legal, active, too_deep, too_wide = Signal(), Signal(), Signal(), Signal()
        opens_loop, loop_runs = Signal(), Signal()
        m.d.comb += [
            opens_loop.eq(commit.opcode == Opcode.LOOP),
            loop_runs.eq(commit.result != 0),
            too_deep.eq(opens_loop & loop_runs & loops.full),
            too_wide.eq(Cat(limited & commit.result[width:].any()
                            for limited, width in zip(commit.limits, _LIMITS, strict=True)).any()),
            legal.eq(commit_valid & (commit.cause == ErrorCause.NONE) & ~too_deep & ~too_wide),
            active.eq(legal & self.run),
            self.error.eq(commit_valid & ~legal),
            self.report.cause.eq(commit.cause),
            self.report.addr.eq(commit.result),
            self.pc.eq(Mux(commit_valid, commit.pc, Mux(compute_valid, compute.pc, Mux(decode_valid, decode.pc, fetch.pc)))),
            finished.eq(active & ready),
            skip.eq(finished & opens_loop & ~loop_runs),
            self.executed.eq(finished),
            loops.push.eq(finished & opens_loop & loop_runs),
            loops.push_start.eq(commit.pc + 1),
            loops.push_count.eq(commit.result),
            self.acquire.mask.eq(commit.imm[:16]),
        ]
        with m.If(commit.cause == ErrorCause.NONE):
            m.d.comb += self.report.cause.eq(Mux(commit.alu, ErrorCause.FIELD_OVERFLOW, ErrorCause.LOOP_STACK))
            with m.If(~commit.alu):
                m.d.comb += self.report.addr.eq(commit.opcode)
        with m.Switch(commit.opcode):
            with m.Case(Opcode.WAIT):
                m.d.comb += [self.acquire.valid.eq(active), ready.eq(self.acquire.grant), self.waiting.eq(legal)]
            with m.Case(Opcode.SIGNAL):
                m.d.comb += self.signal.eq(Mux(active, commit.imm[:16], 0))
            with m.Case(Opcode.FENCE):
                m.d.comb += ready.eq(self.idle)
            with m.Case(Opcode.HALT):
                m.d.comb += [ready.eq(self.idle), self.halted.eq(active & self.idle)]

        m.d.comb += [
            registers.addr.eq(Mux(self.starting, index, commit.a)),
            registers.data.eq(Mux(self.starting, Mux(is_argument, self.arguments[index[:4]], 0), commit.result)),
            registers.en.eq(self.starting | (active & commit.writes)),
        ]
        self._elaborate_descriptors(m, commit, active, ready)
        return m

    def _elaborate_descriptors(self, m: Module, commit: data.View, active: Signal, ready: Signal) -> None:
        """Add the descriptor registers, which ALU results are written to and GO takes a snapshot of."""
        for unit in Unit:
            descriptor = Signal(descriptor_layout(unit), name=f"{unit.name.lower()}_descriptor")
            with m.If(self.start):
                m.d.sync += descriptor.eq(0)
            with m.Elif(active & commit.alu):
                with m.Switch(commit.a):
                    for field in DESCRIPTORS[unit]:
                        with m.Case(destination(unit, field.name)):
                            m.d.sync += descriptor[field.name].eq(commit.result)
            go = getattr(self, unit.name.lower())
            m.d.comb += [
                go.p.descriptor.eq(descriptor),
                go.p.wait.eq(commit.imm[:16]),
                go.p.signal.eq(commit.imm[16:]),
                go.p.pc.eq(commit.pc),
            ]
            with m.If(commit.opcode == Opcode[unit.name]):
                m.d.comb += [go.valid.eq(active), ready.eq(go.ready)]
