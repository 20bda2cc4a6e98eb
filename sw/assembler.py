"""Assembler and disassembler, made from the instruction-set table `hw.isa`.

Text syntax: one instruction a line; `;` or `#` starts a comment; names in any case; numbers as in Python (`64`, `0x40`, `-1`)::

    set    load.rows, 64               ; DESTINATION ← OPERAND (an add to r0)
    add    r4, r5, r6 + 3              ; any ALU opcode: DESTINATION, REGISTER, OPERAND
    loop   r6 + 2                      ; OPERAND: a register, a number (here 0 to 65535), or a register + or - a number
      wait   0, 1                      ; semaphores
      load   wait 0 signal 1, 2        ; queue a command: either list may be missing
      signal 3
    end                                ; the loop's skip count is filled in
    fence
    halt
    .word  0x0123456789abcdef          ; 64 bits as they are

A destination is `r0` to `r31` or a descriptor field, `unit.field`. `loop COUNT, skip N` overrides the skip count.
`disassemble` writes what `assemble` reads, and words → text → words gives the same words whatever they are.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod

import numpy as np
import numpy.typing as npt

from hw.isa import (
    DESTINATIONS,
    INSTRUCTION_FIELDS,
    LOOP_DEPTH,
    OPCODES,
    REGISTERS,
    SEMAPHORES,
    Opcode,
    Unit,
)
from sw.command_parity import with_checks

__all__ = ["Assembler", "AssemblyError", "Instruction", "assemble", "disassemble"]

HALF_MAX = 0xFFFF          # largest value of a half of the immediate: loop count, skip count, semaphore mask
IMM_MAX = 0xFFFF_FFFF
_NAMES = {number: name for name, number in DESTINATIONS.items()}


class AssemblyError(ValueError):
    """A program that cannot be assembled; the text of one made from text starts with "line N: "."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, as the fields of `hw.isa.INSTRUCTION_FIELDS`."""

    opcode: int
    a: int = 0
    b: int = 0
    c: int = 0
    imm: int = 0

    def encode(self) -> int:
        """Return the 64-bit word."""
        word, shift = 0, 0
        for field in INSTRUCTION_FIELDS:
            value = getattr(self, field.name)
            if not 0 <= value < 1 << field.width:
                raise AssemblyError(f"Instruction.{field.name} must be between 0 and {(1 << field.width) - 1}, not {value!r}")
            word |= value << shift
            shift += field.width
        return word

    @classmethod
    def decode(cls, word: int) -> "Instruction":
        """Return the fields of a 64-bit word; nothing is checked."""
        fields = {}
        for field in INSTRUCTION_FIELDS:
            fields[field.name] = word & ((1 << field.width) - 1)
            word >>= field.width
        return cls(**fields)


class Assembler:
    """Builds a program instruction by instruction; `len()` is the index of the next one.

    Registers are named "r0" to "r31", destinations also "unit.field" (`hw.isa.DESTINATIONS`). Each ALU method takes
    `(destination, source, source2="r0", imm=0)` and appends destination ← source op (source2 + imm). `and_` has an underscore.

    Raises
    ------
    AssemblyError
        If a name, number, semaphore or loop is impossible.
    """

    def __init__(self) -> None:
        self._code: list[Instruction] = []
        self._loops: list[tuple[int, int | None]] = []

    def __len__(self) -> int:
        return len(self._code)

    def words(self, *, parity: bool = False) -> npt.NDArray[np.uint64]:
        """Return the program, with check bits if `parity`: uint64, shape (len(self),)."""
        if self._loops:
            raise AssemblyError(f"loop at instruction {self._loops[-1][0]} has no end")
        words = np.array([instruction.encode() for instruction in self._code], dtype=np.uint64)
        return with_checks(words) if parity else words

    def word(self, word: int) -> None:
        """Append a 64-bit word as it is."""
        self._code.append(Instruction.decode(_ranged("word", word, 0, (1 << 64) - 1)))

    # ALU ------------------------------------------------------------------------------------------------------

    def alu(self, opcode: Opcode, destination: str, source: str, source2: str = "r0", imm: int = 0) -> None:
        """Append destination ← source `opcode` (source2 + imm); imm is any 32-bit number, signed or not."""
        if OPCODES[opcode].kind != "alu":
            raise AssemblyError(f"opcode must be of kind 'alu', not {opcode.name}")
        number = _ranged("immediate", imm, -(1 << 31), IMM_MAX) & IMM_MAX
        self._code.append(Instruction(opcode, _destination(destination), _register(source), _register(source2), number))

    add = partialmethod(alu, Opcode.ADD)
    sub = partialmethod(alu, Opcode.SUB)
    min = partialmethod(alu, Opcode.MIN)
    max = partialmethod(alu, Opcode.MAX)
    and_ = partialmethod(alu, Opcode.AND)
    xor = partialmethod(alu, Opcode.XOR)
    shl = partialmethod(alu, Opcode.SHL)
    shr = partialmethod(alu, Opcode.SHR)

    def set(self, destination: str, value: int | str, imm: int = 0) -> None:
        """Append destination ← value + imm, where value is a number or the name of a register."""
        if isinstance(value, str):
            self.alu(Opcode.ADD, destination, "r0", value, imm)
        else:
            self.alu(Opcode.ADD, destination, "r0", imm=value + imm)

    # Loops ----------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, count: int | str, imm: int = 0) -> Iterator[None]:
        """Repeat the body of a `with` statement count + imm times, count a number or the name of a register."""
        self.open_loop(count, imm)
        yield
        self.close_loop()

    def open_loop(self, count: int | str, imm: int = 0, skip: int | None = None) -> None:
        """Append a LOOP; its skip count is filled in by `close_loop` where `skip` is None."""
        if len(self._loops) == LOOP_DEPTH:
            raise AssemblyError(f"loops must be nested at most {LOOP_DEPTH} deep")
        register, number = (count, imm) if isinstance(count, str) else ("r0", count + imm)
        number = _ranged("loop count immediate", number, 0, HALF_MAX)
        self._loops.append((len(self._code), skip))
        self._code.append(Instruction(Opcode.LOOP, b=_register(register), imm=number))

    def close_loop(self) -> None:
        """Append the END of the innermost open loop."""
        if not self._loops:
            raise AssemblyError("end must close a loop, but none is open")
        start, skip = self._loops.pop()
        self._code.append(Instruction(Opcode.END))
        skip = len(self._code) - 1 - start if skip is None else skip
        head = self._code[start]
        imm = head.imm | _ranged("loop skip count", skip, 0, HALF_MAX) << 16
        self._code[start] = Instruction(head.opcode, b=head.b, imm=imm)

    # Queues and tokens ----------------------------------------------------------------------------------------

    def go(self, unit: Unit, wait: Iterable[int] = (), signal: Iterable[int] = ()) -> None:
        """Append the GO of `unit`: the command waits for, and when done signals, the semaphores named by number."""
        self._code.append(Instruction(Opcode[unit.name], imm=_mask(wait) | _mask(signal) << 16))

    def signal(self, *semaphores: int) -> None:
        """Append a SIGNAL of the semaphores named by number."""
        self._code.append(Instruction(Opcode.SIGNAL, imm=_mask(semaphores)))

    def wait(self, *semaphores: int) -> None:
        """Append a WAIT for the semaphores named by number."""
        self._code.append(Instruction(Opcode.WAIT, imm=_mask(semaphores)))

    def fence(self) -> None:
        """Append a FENCE."""
        self._code.append(Instruction(Opcode.FENCE))

    def halt(self) -> None:
        """Append a HALT."""
        self._code.append(Instruction(Opcode.HALT))


def _ranged(what: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise AssemblyError(f"{what} must be between {low} and {high}, not {value!r}")
    return int(value)


def _register(name: str) -> int:
    number = DESTINATIONS.get(name.lower(), REGISTERS)
    if number >= REGISTERS:
        raise AssemblyError(f"source must be a register r0 to r{REGISTERS - 1}, not {name!r}")
    return number


def _destination(name: str) -> int:
    if name.lower() not in DESTINATIONS:
        raise AssemblyError(f"destination must be a register or a descriptor field (such as load.rows), not {name!r}")
    return DESTINATIONS[name.lower()]


def _mask(semaphores: Iterable[int]) -> int:
    mask = 0
    for semaphore in semaphores:
        mask |= 1 << _ranged("semaphore", semaphore, 0, SEMAPHORES - 1)
    return mask


# Text → words -------------------------------------------------------------------------------------------------

_OPERAND = re.compile(r"(?:(?P<register>[a-z]\w*)\s*(?:(?P<sign>[+-])\s*)?)?(?P<number>-?\d\w*)?", re.IGNORECASE)
_COUNT = re.compile(r"(?P<count>[^,]*?)(?:,\s*skip\s+(?P<skip>\S+))?", re.IGNORECASE)
_GO = re.compile(r"(?:wait\s+(?P<wait>[^a-z]*?))?\s*(?:signal\s+(?P<signal>[^a-z]*))?", re.IGNORECASE)


def assemble(text: str, *, parity: bool = False) -> npt.NDArray[np.uint64]:
    """Return the program written in `text`: uint64, one word for each instruction, with check bits if `parity`.

    Raises
    ------
    AssemblyError
        At the first mistake, with its line number.
    ParityError
        If a `.word` has something else in the place of check bits.
    """
    asm = Assembler()
    loop_lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement = re.split("[;#]", line, maxsplit=1)[0].strip()
        mnemonic, rest = [*statement.split(maxsplit=1), "", ""][:2]
        try:
            if mnemonic:
                _statement(asm, mnemonic.upper(), rest)
        except AssemblyError as error:
            raise AssemblyError(f"line {number}: {error}") from None
        if mnemonic.upper() == Opcode.LOOP.name:
            loop_lines.append(number)
        elif mnemonic.upper() == Opcode.END.name:
            loop_lines.pop()
    if loop_lines:
        raise AssemblyError(f"line {loop_lines[-1]}: loop has no end")
    return asm.words(parity=parity)


def _statement(asm: Assembler, mnemonic: str, rest: str) -> None:
    if mnemonic == ".WORD":
        asm.word(_number(rest))
        return
    if mnemonic == "SET":
        destination, operand = _split(rest, 2, "set DESTINATION, OPERAND")
        register, imm = _operand(operand)
        asm.set(destination, register, imm)
        return
    if mnemonic not in Opcode.__members__:
        raise AssemblyError(f"instruction must be an opcode, set or .word, not {mnemonic.lower()!r}")
    opcode = Opcode[mnemonic]
    match OPCODES[opcode].kind:
        case "alu":
            destination, source, operand = _split(rest, 3, f"{mnemonic.lower()} DESTINATION, REGISTER, OPERAND")
            register, imm = _operand(operand)
            asm.alu(opcode, destination, source, register, imm)
        case "loop":
            match = _COUNT.fullmatch(rest)
            if match is None:
                raise AssemblyError(f"loop must be written as loop OPERAND or loop OPERAND, skip NUMBER, not {rest!r}")
            asm.open_loop(*_operand(match["count"]), skip=None if match["skip"] is None else _number(match["skip"]))
        case "tokens":
            (asm.signal if opcode is Opcode.SIGNAL else asm.wait)(*_numbers(rest))
        case "go":
            match = _GO.fullmatch(rest)
            if match is None:
                raise AssemblyError(f"{mnemonic.lower()} takes wait SEMAPHORES and signal SEMAPHORES, not {rest!r}")
            asm.go(Unit[opcode.name], _numbers(match["wait"] or ""), _numbers(match["signal"] or ""))
        case _:
            if rest:
                raise AssemblyError(f"{mnemonic.lower()} takes no operand, not {rest!r}")
            {Opcode.HALT: asm.halt, Opcode.FENCE: asm.fence, Opcode.END: asm.close_loop}[opcode]()


def _split(text: str, count: int, syntax: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count:
        raise AssemblyError(f"instruction must be written as {syntax}, not with operands {text!r}")
    return parts


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise AssemblyError(f"number must be decimal or 0x…, not {text!r}") from None


def _numbers(text: str) -> list[int]:
    return [_number(part.strip()) for part in text.split(",")] if text.strip() else []


def _operand(text: str) -> tuple[str, int]:
    """Return register name and immediate of a second ALU operand."""
    match = _OPERAND.fullmatch(text.strip())
    if not text or match is None or (match["register"] and bool(match["sign"]) != bool(match["number"])):
        raise AssemblyError(f"operand must be a register, a number, or a register + or - a number, not {text!r}")
    number = _number(match["number"] or "0")
    return match["register"] or "r0", -number if match["sign"] == "-" else number


# Words → text -------------------------------------------------------------------------------------------------


def disassemble(words: Sequence[int] | npt.NDArray[np.uint64]) -> str:
    """Return the text of a program, one line for each word; a word that no text stands for becomes a `.word`.

    What has check bits is shown without them: `sw.command_parity.without_checks`.
    """
    code = [int(word) for word in words]
    ends = _matching_ends(code)
    structured = {*ends, *ends.values()}
    lines, depth = [], 0
    for pc, word in enumerate(code):
        instruction = Instruction.decode(word)
        loose = instruction.opcode in (Opcode.LOOP, Opcode.END) and pc not in structured
        text = None if loose else _text(instruction, ends.get(pc, pc) - pc)
        depth -= text is not None and instruction.opcode == Opcode.END
        lines.append("  " * depth + (f".word {word:#018x}" if text is None else text))
        depth += text is not None and instruction.opcode == Opcode.LOOP
    return "".join(line + "\n" for line in lines)


def _matching_ends(code: list[int]) -> dict[int, int]:
    """Return LOOP index → END index of the loops that text can show: canonical, closed, not nested too deep."""
    ends, stack = {}, []
    for pc, word in enumerate(code):
        instruction = Instruction.decode(word)
        if instruction.opcode == Opcode.LOOP and _text(instruction, 0) is not None:
            stack.append(pc)
        elif word == Opcode.END and stack:
            ends[stack.pop()] = pc
    open_ends: list[int] = []
    for start, end in sorted(ends.items()):
        open_ends = [other for other in open_ends if other > start]
        if len(open_ends) == LOOP_DEPTH:
            del ends[start]
        else:
            open_ends.append(end)
    return ends


def _text(instruction: Instruction, skip: int) -> str | None:
    """Return the text of an instruction, or None if none assembles to it; `skip` is a loop's expected skip count."""
    if instruction.opcode not in OPCODES:
        return None
    opcode = Opcode(instruction.opcode)
    name, imm = opcode.name.lower(), instruction.imm
    low, high = imm & HALF_MAX, imm >> 16
    used: set[str]
    match OPCODES[opcode].kind:
        case "alu":
            used = {"a", "b", "c", "imm"}
            if instruction.a not in _NAMES or max(instruction.b, instruction.c) >= REGISTERS:
                return None
            operand = _operand_text(instruction.c, imm - (1 << 32) if imm >> 31 else imm)
            if opcode is Opcode.ADD and instruction.b == 0:
                text = f"set {_NAMES[instruction.a]}, {operand}"
            else:
                text = f"{name} {_NAMES[instruction.a]}, r{instruction.b}, {operand}"
        case "loop":
            used = {"b", "imm"}
            if instruction.b >= REGISTERS:
                return None
            text = f"{name} {_operand_text(instruction.b, low)}" + (f", skip {high}" if high != skip else "")
        case "tokens":
            used = {"imm"} if high == 0 else set()
            text = f"{name} {_mask_text(low)}"
        case "go":
            used = {"imm"}
            text = name + (f" wait {_mask_text(low)}" if low else "") + (f" signal {_mask_text(high)}" if high else "")
        case _:
            used, text = set(), name
    unused = {field.name for field in INSTRUCTION_FIELDS} - used - {"opcode"}
    return None if any(getattr(instruction, field) for field in unused) else text.rstrip()


def _operand_text(register: int, number: int) -> str:
    text = str(abs(number)) if abs(number) <= HALF_MAX else hex(abs(number))
    if register == 0:
        return "-" + text if number < 0 else text
    return f"r{register}" + (f" {'-' if number < 0 else '+'} {text}" if number else "")


def _mask_text(mask: int) -> str:
    return ", ".join(str(i) for i in range(SEMAPHORES) if mask >> i & 1)
