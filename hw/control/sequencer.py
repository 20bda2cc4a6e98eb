"""The sequencer: executes instructions, fills descriptors, and puts commands into the queues."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.control.fetch import InstructionPort
from hw.control.loops import LoopStack
from hw.control.queue import PC_WIDTH, command_layout
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
from hw.timing import START_CYCLES

__all__ = ["Sequencer"]

_EXECUTE = data.StructLayout({
    "opcode": 8, "a": 8, "x": 32, "y": 32, "imm": 32, "pc": PC_WIDTH, "cause": 8, "addr": 32,
})
_FIELD_WIDTHS = {destination(unit, field.name): field.width for unit, fields in DESCRIPTORS.items() for field in fields}


def _opcodes(kind: str) -> list[Opcode]:
    return [opcode for opcode, info in OPCODES.items() if info.kind == kind]


class Sequencer(wiring.Component):
    """Scalar processor of two stages: *decode* reads registers and redirects at END, *execute* does everything else.

    Starting takes `hw.timing.START_CYCLES`, in which registers are cleared and the arguments copied. Then an instruction that is
    in the cache takes one cycle, and one more if it reads the register that the instruction before it writes, or comes next after
    a LOOP. A GO waits for room in its queue, WAIT for its semaphores, FENCE and HALT for `idle`.
    Errors are precise: every instruction before the one at fault has executed, none after it.

    Unused fields of an instruction are ignored; a register field above 31 that is used is illegal, and so is a result that does
    not fit its descriptor field. ERROR_ADDR is the opcode, the program counter where that left the program, or that result.

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
        Every queue is empty and every unit idle.
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

    def __init__(self) -> None:
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
        m.submodules.registers = registers = Memory(shape=32, depth=REGISTERS, init=[])
        m.submodules.loops = loops = LoopStack()
        write = registers.write_port()
        read_b, read_c = registers.read_port(domain="comb"), registers.read_port(domain="comb")
        fetch, word = self.instruction, self.instruction.word

        execute, valid = Signal(_EXECUTE), Signal()
        finished, issue = Signal(), Signal()          # execute lets go of its instruction; decode hands one over
        writes_register, opens_loop, loop_runs = Signal(), Signal(), Signal()

        # Start: clear the registers and copy the arguments, one register a cycle.
        index = Signal(range(START_CYCLES))
        is_argument = index >= FIRST_ARGUMENT
        with m.If(self.start):
            m.d.sync += [self.starting.eq(1), index.eq(0)]
        with m.Elif(self.starting):
            m.d.sync += [index.eq(index + 1), self.starting.eq(index != START_CYCLES - 1)]

        # Decode.
        cause, addr, uses_c, hazard = Signal(8), Signal(32), Signal(), Signal()
        second = Signal(32)
        bad_b, bad_c = word.b >= REGISTERS, word.c >= REGISTERS
        m.d.comb += [
            cause.eq(ErrorCause.ILLEGAL_INSTRUCTION),
            addr.eq(word.opcode),
            read_b.addr.eq(word.b),
            read_c.addr.eq(word.c),
            second.eq(word.imm + read_c.data),
        ]
        with m.If(fetch.beyond):
            m.d.comb += [cause.eq(ErrorCause.PROGRAM_COUNTER), addr.eq(fetch.pc)]
        with m.Elif(fetch.fault):
            m.d.comb += [cause.eq(ErrorCause.BUS_FETCH), addr.eq(fetch.fault_addr)]
        with m.Else():
            with m.Switch(word.opcode):
                with m.Case(*_opcodes("alu")):
                    m.d.comb += uses_c.eq(1)
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
        m.d.comb += [
            hazard.eq(valid & (opens_loop | (writes_register & ((execute.a == word.b) | (uses_c & (execute.a == word.c)))))),
            issue.eq(self.run & ~self.starting & (fetch.hit | fetch.beyond | fetch.fault) & ~hazard & (~valid | finished)),
            loops.clear.eq(self.start),
            loops.end.eq(issue & (cause == ErrorCause.NONE) & (word.opcode == Opcode.END)),
        ]
        with m.If(issue):
            m.d.sync += [
                execute.opcode.eq(word.opcode), execute.a.eq(word.a), execute.imm.eq(word.imm), execute.pc.eq(fetch.pc),
                execute.x.eq(read_b.data), execute.y.eq(second), execute.cause.eq(cause), execute.addr.eq(addr),
            ]
        with m.If(issue | finished | self.start):
            m.d.sync += valid.eq(issue & ~self.start)

        m.d.comb += fetch.next_pc.eq(fetch.pc)
        with m.If(self.start):
            m.d.comb += fetch.next_pc.eq(0)
        with m.Elif(loops.end & loops.again):
            m.d.comb += fetch.next_pc.eq(loops.start)
        with m.Elif(issue):
            m.d.comb += fetch.next_pc.eq(fetch.pc + 1)
        with m.Elif(self.executed & opens_loop & ~loop_runs):
            m.d.comb += fetch.next_pc.eq(fetch.pc + execute.imm[16:])

        # Execute.
        x, y = execute.x, execute.y
        result, ready = Signal(32), Signal(init=1)
        legal, active, too_deep, too_wide = Signal(), Signal(), Signal(), Signal()
        is_alu = Signal()
        m.d.comb += [
            too_deep.eq(opens_loop & loop_runs & loops.full),
            legal.eq(valid & (execute.cause == ErrorCause.NONE) & ~too_deep & ~(is_alu & too_wide)),
            active.eq(legal & self.run),
            self.error.eq(valid & ~legal),
            self.report.cause.eq(execute.cause),
            self.report.addr.eq(execute.addr),
            self.pc.eq(Mux(valid, execute.pc, fetch.pc)),
            finished.eq(active & ready),
            self.executed.eq(finished),
            opens_loop.eq(execute.opcode == Opcode.LOOP),
            result.eq(x + y),
            loop_runs.eq(result != 0),
            loops.push.eq(finished & opens_loop & loop_runs),
            loops.push_start.eq(fetch.pc),
            loops.push_count.eq(result),
            self.acquire.mask.eq(execute.imm[:16]),
        ]
        with m.If(execute.cause == ErrorCause.NONE):
            m.d.comb += self.report.cause.eq(Mux(is_alu, ErrorCause.FIELD_OVERFLOW, ErrorCause.LOOP_STACK))
            with m.If(is_alu):
                m.d.comb += self.report.addr.eq(result)
        with m.Switch(execute.a):
            for width in sorted({*_FIELD_WIDTHS.values()} - {len(result)}):
                with m.Case(*(number for number, of in _FIELD_WIDTHS.items() if of == width)):
                    m.d.comb += too_wide.eq(result[width:].any())
        with m.Switch(execute.opcode):
            with m.Case(*_opcodes("alu")):
                m.d.comb += is_alu.eq(1)
            with m.Case(Opcode.WAIT):
                m.d.comb += [self.acquire.valid.eq(active), ready.eq(self.acquire.grant), self.waiting.eq(legal)]
            with m.Case(Opcode.SIGNAL):
                m.d.comb += self.signal.eq(Mux(active, execute.imm[:16], 0))
            with m.Case(Opcode.FENCE):
                m.d.comb += ready.eq(self.idle)
            with m.Case(Opcode.HALT):
                m.d.comb += [ready.eq(self.idle), self.halted.eq(active & self.idle)]
        with m.Switch(execute.opcode):
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

        m.d.comb += [
            writes_register.eq(is_alu & (execute.a < REGISTERS) & (execute.a != 0)),
            write.addr.eq(Mux(self.starting, index, execute.a)),
            write.data.eq(Mux(self.starting, Mux(is_argument, self.arguments[index[:4]], 0), result)),
            write.en.eq(self.starting | (active & writes_register)),
        ]
        self._elaborate_descriptors(m, execute, active, is_alu, result, ready)
        return m

    def _elaborate_descriptors(self, m: Module, execute: Any, active: Signal, is_alu: Signal, result: Signal,
                               ready: Signal) -> None:
        """Add the descriptor registers, which ALU results are written to and GO takes a snapshot of."""
        for unit in Unit:
            descriptor = Signal(descriptor_layout(unit), name=f"{unit.name.lower()}_descriptor")
            with m.If(self.start):
                m.d.sync += descriptor.eq(0)
            with m.Elif(active & is_alu):
                with m.Switch(execute.a):
                    for field in DESCRIPTORS[unit]:
                        with m.Case(destination(unit, field.name)):
                            m.d.sync += descriptor[field.name].eq(result)
            go = getattr(self, unit.name.lower())
            m.d.comb += [
                go.p.descriptor.eq(descriptor),
                go.p.wait.eq(execute.imm[:16]),
                go.p.signal.eq(execute.imm[16:]),
                go.p.pc.eq(execute.pc),
            ]
            with m.If(execute.opcode == Opcode[unit.name]):
                m.d.comb += [go.valid.eq(active), ready.eq(go.ready)]
