"""A second reading of the instruction set, for the benches of the controller: written from `hw.isa` alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hw.isa import DESCRIPTORS, ErrorCause, Unit

__all__ = ["Command", "Trace", "interpret"]

M32 = 2**32 - 1
HALT, LOOP, END, SIGNAL, WAIT, FENCE = 0x01, 0x10, 0x11, 0x12, 0x13, 0x14
GO = {0x20: Unit.LOAD, 0x21: Unit.MATRIX, 0x22: Unit.VECTOR, 0x23: Unit.STORE}
FIELDS = [(unit, f.name, f.width) for unit in Unit for f in DESCRIPTORS[unit]]


@dataclass(frozen=True)
class Command:
    """A queued command: its instruction, descriptor fields and masks."""

    pc: int
    fields: dict[str, int]
    wait: int
    signal: int


@dataclass
class Trace:
    """What a program does, in program order.

    Attributes
    ----------
    commands : dict of Unit to list of Command
    signals : list of int
        Masks of the SIGNAL instructions.
    fences : list of dict of Unit to int
        Commands queued before each FENCE.
    counts : list of int
        Semaphores at the end.
    executed, hazards : int
        Instructions executed, HALT included; cycles that decode loses to a register just written, to an END soon after a LOOP,
        and to jumps.
    depth : int
        Deepest nesting of running loops.
    opcodes : set of int
        Those executed.
    cause, pc, addr
        How it ended: NONE at a HALT.
    """

    commands: dict[Unit, list[Command]] = field(default_factory=lambda: {unit: [] for unit in Unit})
    signals: list[int] = field(default_factory=list)
    fences: list[dict[Unit, int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=lambda: [0] * 16)
    executed: int = 0
    hazards: int = 0
    depth: int = 0
    opcodes: set[int] = field(default_factory=set)
    cause: ErrorCause = ErrorCause.NONE
    pc: int = 0
    addr: int = 0


def _alu(op: int, x: int, y: int) -> int | None:
    match op:
        case 0x02:
            return (x + y) % 2**32
        case 0x03:
            return (x - y) % 2**32
        case 0x04:
            return x if x < y else y
        case 0x05:
            return x if x > y else y
        case 0x06:
            return x & y
        case 0x07:
            return x ^ y
        case 0x08:
            return x * 2 ** (y % 32) % 2**32
        case 0x09:
            return x // 2 ** (y % 32)
    return None


def interpret(words: Sequence[int], arguments: Sequence[int] = (), *, base: int = 0, bad_lines: Sequence[int] = (),
              limit: int = 100_000) -> Trace:
    """Run a program; lines of 8 instructions with an index in `bad_lines` cannot be fetched.

    Raises
    ------
    TimeoutError
        If it executes more than `limit` instructions.
    ValueError
        If in program order a wait comes before its signal.
    """
    trace = Trace()
    r = [0] * 16 + [*arguments, *[0] * 16][:16]
    descriptor = [0] * len(FIELDS)
    stack: list[tuple[int, int]] = []
    pc, written, opened = 0, 0, -9           # opened: when decode let the last LOOP go

    def stop(cause: ErrorCause, addr: int) -> Trace:
        trace.cause, trace.pc, trace.addr = cause, pc, addr
        return trace

    while trace.executed < limit:
        if pc >= len(words):
            return stop(ErrorCause.PROGRAM_COUNTER, pc)
        if pc // 8 in bad_lines:
            return stop(ErrorCause.BUS_FETCH, base + pc // 8 * 64)
        op, a, b, c, imm = words[pc] % 256, words[pc] >> 8 & 255, words[pc] >> 16 & 255, words[pc] >> 24 & 255, words[pc] >> 32
        low, high = imm % 2**16, imm // 2**16
        following = pc + 1
        is_alu = 0x02 <= op <= 0x09
        if (is_alu and (b > 31 or c > 31 or a >= 32 + len(FIELDS))) or (op == LOOP and b > 31):
            return stop(ErrorCause.ILLEGAL_INSTRUCTION, op)
        reads = {b, c} if is_alu else {b} if op == LOOP else set()
        trace.hazards += bool(reads & {written} - {0})
        written = 0
        if is_alu:
            value = _alu(op, r[b], (r[c] + imm) & M32)
            assert value is not None
            if a >= 32:
                if value >= 2 ** FIELDS[a - 32][2]:
                    return stop(ErrorCause.FIELD_OVERFLOW, value)
                descriptor[a - 32] = value
            elif a:
                r[a] = value
                written = a
        elif op in GO:
            fields = {name: value for (unit, name, _), value in zip(FIELDS, descriptor, strict=True) if unit == GO[op]}
            trace.commands[GO[op]].append(Command(pc, fields, low, high))
        elif op == LOOP:
            count = (r[b] + low) & M32
            opened = trace.executed + trace.hazards
            if count == 0:
                following += high
                trace.hazards += 3
            elif len(stack) == 6:
                return stop(ErrorCause.LOOP_STACK, op)
            else:
                stack.append((following, count))
                trace.depth = max(trace.depth, len(stack))
        elif op == END:
            if not stack:
                return stop(ErrorCause.LOOP_STACK, op)
            start, count = stack.pop()
            trace.hazards += max(0, 3 - (trace.executed + trace.hazards - opened))
            if count > 1:
                trace.hazards += 1
                stack.append((start, count - 1))
                following = start
        elif op == SIGNAL:
            trace.signals.append(low)
        elif op == FENCE:
            trace.fences.append({unit: len(commands) for unit, commands in trace.commands.items()})
        elif op not in (HALT, WAIT):
            return stop(ErrorCause.ILLEGAL_INSTRUCTION, op)
        takes = low if op in GO or op == WAIT else 0
        gives = high if op in GO else low if op == SIGNAL else 0
        for i in range(16):
            trace.counts[i] += (gives >> i & 1) - (takes >> i & 1)
            if trace.counts[i] < (gives >> i & 1):
                raise ValueError(f"instruction {pc} waits for semaphore {i} before it is signalled")
        trace.executed += 1
        trace.opcodes.add(op)
        if op == HALT:
            trace.pc = pc
            return trace
        pc = following
    raise TimeoutError(f"more than {limit} instructions")
