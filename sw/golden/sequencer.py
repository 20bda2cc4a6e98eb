"""The sequencer: instructions → queued commands, in program order, without data.

What a command does is `sw.golden.device`'s business; when it does it is `sw.perf`'s.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.isa import (
    DESCRIPTORS,
    DESTINATIONS,
    FIRST_ARGUMENT,
    INSTRUCTION_BYTES,
    INSTRUCTION_FIELDS,
    LOOP_DEPTH,
    OPCODES,
    REGISTERS,
    SEMAPHORES,
    SEQUENCER,
    ErrorCause,
    Opcode,
    Unit,
)
from hw.timing import FETCH_LINE_BYTES, LOOP_CYCLES, SKIP_CYCLES
from sw.command_parity import syndromes, without_checks

__all__ = ["Event", "Fault", "mask_bits", "run_sequencer"]

WORD = 0xFFFF_FFFF
HALF = 0xFFFF
LINE = FETCH_LINE_BYTES // INSTRUCTION_BYTES      # instructions of a fetched line

_ALU: dict[Opcode, Callable[[int, int], int]] = {
    Opcode.ADD: lambda a, b: (a + b) & WORD,
    Opcode.SUB: lambda a, b: (a - b) & WORD,
    Opcode.MIN: min,
    Opcode.MAX: max,
    Opcode.AND: lambda a, b: a & b,
    Opcode.XOR: lambda a, b: a ^ b,
    Opcode.SHL: lambda a, b: (a << (b & 31)) & WORD,
    Opcode.SHR: lambda a, b: a >> (b & 31),
}
_UNITS = {Opcode.LOAD: Unit.LOAD, Opcode.MATRIX: Unit.MATRIX, Opcode.VECTOR: Unit.VECTOR, Opcode.STORE: Unit.STORE}
_FIELD_OF = {
    DESTINATIONS[f"{unit.name.lower()}.{field.name}"]: (unit, field.name, (1 << field.width) - 1)
    for unit, fields in DESCRIPTORS.items() for field in fields
}


class Fault(Exception):
    """An error stop: cause, unit number, instruction and what was wrong."""

    def __init__(self, cause: ErrorCause, unit: int, pc: int, addr: int):
        super().__init__(cause, unit, pc, addr)
        self.cause, self.unit, self.pc, self.addr = cause, unit, pc, addr


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the sequencer does besides arithmetic.

    Attributes
    ----------
    opcode : Opcode
        LOAD, MATRIX, VECTOR or STORE for a queued command; SIGNAL, WAIT, FENCE or HALT.
    pc : int
        Its instruction.
    executed : int
        Instructions executed up to and including this one.
    wait, signal : int
        Semaphore masks.
    unit : Unit or None
        The queue of a command.
    fields : dict of str to int
        The descriptor of a command; empty otherwise.
    issued : int
        Cycles that the sequencer has spent up to and including it, were nothing to wait for: one for each instruction, one more
        where it reads the register that the instruction before it writes, and what loops cost (see `hw.control.sequencer`).
    lines : tuple of (int, int)
        Lines of 8 instructions entered since the last event: line, and `issued` before its first instruction.
    """

    opcode: Opcode
    pc: int
    executed: int
    wait: int = 0
    signal: int = 0
    unit: Unit | None = None
    fields: Mapping[str, int] = field(default_factory=dict)
    issued: int = 0
    lines: tuple[tuple[int, int], ...] = ()


def mask_bits(mask: int) -> list[int]:
    """Return the semaphores in a mask, ascending."""
    return [i for i in range(SEMAPHORES) if mask >> i & 1]


def run_sequencer(code: npt.NDArray[np.uint64], arguments: Mapping[int, int], *, parity: bool = False) -> Iterator[Event]:
    """Yield the events of a program in order; the last one is HALT.

    Parameters
    ----------
    code : ndarray of uint64
    arguments : dict of int to int
        Argument CSR index → value; the others are zero.
    parity : bool
        Instructions have check bits (`hw.isa`).

    Raises
    ------
    Fault
        At an instruction that stops the accelerator.
    """
    failing = syndromes(code) if parity else np.zeros(len(code), np.int64)
    instructions = [_decode(int(word)) for word in (without_checks(code) if parity else code)]
    registers = [0] * REGISTERS
    for index, value in arguments.items():
        registers[FIRST_ARGUMENT + index] = value
    descriptors: dict[Unit, dict[str, int]] = {unit: {f.name: 0 for f in fields} for unit, fields in DESCRIPTORS.items()}
    loops: list[list[int]] = []
    pc, executed, issued, written, line = 0, 0, 0, 0, -1
    opened = -LOOP_CYCLES       # `issued` at the last LOOP
    lines: list[tuple[int, int]] = []

    def event(**parts: Any) -> Event:
        entered = tuple(lines)
        lines.clear()
        assert opcode is not None
        return Event(opcode=opcode, pc=pc, executed=executed, issued=issued, lines=entered, **parts)

    while True:
        if pc >= len(instructions):
            raise Fault(ErrorCause.PROGRAM_COUNTER, SEQUENCER, pc, pc)
        opcode, a, b, c, imm = instructions[pc]
        if pc // LINE != line:
            line = pc // LINE
            lines.append((line, issued))
        executed += 1
        issued += 1 + (written != 0 and written in (b, c))
        written = 0
        if failing[pc]:
            raise Fault(ErrorCause.COMMAND_PARITY, SEQUENCER, pc, int(failing[pc]))
        if opcode is None:
            raise Fault(ErrorCause.ILLEGAL_INSTRUCTION, SEQUENCER, pc, int(code[pc]) & 0xFF)
        alu = _ALU.get(opcode)
        if (alu is not None and max(b, c) >= REGISTERS) or (opcode == Opcode.LOOP and b >= REGISTERS):
            raise Fault(ErrorCause.ILLEGAL_INSTRUCTION, SEQUENCER, pc, opcode)
        if alu is not None:
            value = alu(registers[b], (registers[c] + imm) & WORD)
            if 0 < a < REGISTERS:
                registers[a], written = value, a
            elif a in _FIELD_OF:
                unit, name, largest = _FIELD_OF[a]
                if value > largest:
                    raise Fault(ErrorCause.FIELD_OVERFLOW, SEQUENCER, pc, value)
                descriptors[unit][name] = value
            elif a:
                raise Fault(ErrorCause.ILLEGAL_INSTRUCTION, SEQUENCER, pc, opcode)
            pc += 1
        elif opcode in _UNITS:
            unit = _UNITS[opcode]
            yield event(wait=imm & HALF, signal=imm >> 16, unit=unit, fields=dict(descriptors[unit]))
            pc += 1
        elif opcode == Opcode.LOOP:
            count = (registers[b] + (imm & HALF)) & WORD
            opened = issued
            if count == 0:
                pc += 1 + (imm >> 16)
                issued += SKIP_CYCLES
            elif len(loops) == LOOP_DEPTH:
                raise Fault(ErrorCause.LOOP_STACK, SEQUENCER, pc, opcode)
            else:
                pc += 1
                loops.append([pc, count])
        elif opcode == Opcode.END:
            if not loops:
                raise Fault(ErrorCause.LOOP_STACK, SEQUENCER, pc, opcode)
            issued = max(issued, opened + LOOP_CYCLES)
            loops[-1][1] -= 1
            if loops[-1][1]:
                pc = loops[-1][0]
                issued += 1         # what was fetched behind it is dropped
            else:
                pc += 1
                loops.pop()
        elif opcode == Opcode.SIGNAL:
            yield event(signal=imm & HALF)
            pc += 1
        elif opcode == Opcode.WAIT:
            yield event(wait=imm & HALF)
            pc += 1
        else:
            yield event()
            if opcode == Opcode.HALT:
                return
            pc += 1


def _decode(word: int) -> tuple[Opcode | None, int, int, int, int]:
    """Return opcode (None if there is no such), a, b, c and imm."""
    values = {}
    for part in INSTRUCTION_FIELDS:
        values[part.name] = word & ((1 << part.width) - 1)
        word >>= part.width
    opcode = Opcode(values["opcode"]) if values["opcode"] in OPCODES else None
    return opcode, values["a"], values["b"], values["c"], values["imm"]
