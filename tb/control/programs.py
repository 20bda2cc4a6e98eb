"""Random programs for the controller: legal by construction, or with one mistake."""

import random

import numpy as np
import numpy.typing as npt

from hw.isa import DESCRIPTORS, DESTINATIONS, LOOP_DEPTH, OPCODES, SEMAPHORES, Opcode, Unit
from sw.assembler import Assembler

__all__ = ["MISTAKES", "random_program", "words_of"]

ALU = sorted(op for op, info in OPCODES.items() if info.kind == "alu")
CORNERS = (0, 1, 2, 31, 32, 255, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
WIDTHS = {f"{unit.name.lower()}.{field.name}": field.width for unit, fields in DESCRIPTORS.items() for field in fields}
NARROW = [name for name, width in WIDTHS.items() if width < 32]
LOOP_REGISTER = "r1"           # written just before each LOOP that reads it, and nowhere else
SMALL_ARGUMENT = "r31"         # argument 15 is 0 to 2


def random_program(seed: int, *, statements: int, mistake: str | None = None) -> Assembler:
    """Return a program of about `statements` statements that ends in HALT, with one of `MISTAKES` on its way.

    Each semaphore has one consumer, a queue or the sequencer; in each block of statements, as many are signalled as
    are waited for. So program order is a legal order of execution, whatever the units' timing.
    """
    return _Writer(random.Random(seed), mistake).write(statements)


def words_of(asm: Assembler) -> npt.NDArray[np.uint64]:
    """Return the program with a HALT at its end."""
    asm.halt()
    return asm.words()


class _Writer:
    def __init__(self, rng: random.Random, mistake: str | None):
        self.rng, self.mistake = rng, mistake
        self.asm = Assembler()
        self.consumer = [rng.choice([None, *Unit]) for _ in range(SEMAPHORES)]

    def write(self, statements: int) -> Assembler:
        where = self.rng.randrange(statements) if self.mistake else -1
        for i in range(0, statements, 8):
            self.block(0, 8)
            if i <= where < i + 8:
                assert self.mistake
                MISTAKES[self.mistake](self)
        self.asm.halt()
        for _ in range(self.rng.randrange(12)):
            self.asm.word(self.rng.getrandbits(64))
        return self.asm

    def block(self, depth: int, statements: int) -> None:
        tokens = [0] * SEMAPHORES
        for _ in range(statements):
            kind = self.rng.random()
            if kind < 0.5:
                self.alu()
            elif kind < 0.75:
                self.go(tokens)
            elif kind < 0.87 and depth < LOOP_DEPTH:
                self.loop(depth, self.rng.randrange(1, 5))
            elif kind < 0.89 and depth == 0:
                self.nest(0)
            elif kind < 0.93:
                given = self.some(i for i in range(SEMAPHORES) if tokens[i] < 3)
                for i in given:
                    tokens[i] += 1
                self.asm.signal(*given)
            elif kind < 0.97:
                taken = self.some(i for i in range(SEMAPHORES) if tokens[i] and self.consumer[i] is None)
                for i in taken:
                    tokens[i] -= 1
                self.asm.wait(*taken)
            else:
                self.asm.fence()
        for i, count in enumerate(tokens):
            for _ in range(count):
                consumer = self.consumer[i]
                if consumer is None:
                    self.asm.wait(i)
                else:
                    self.asm.go(consumer, wait=[i])

    def some(self, indices) -> list[int]:
        return [i for i in indices if self.rng.random() < 0.3]

    def alu(self) -> None:
        rng = self.rng
        target = rng.choice([*WIDTHS]) if rng.random() < 0.6 else f"r{rng.choice([0, *range(2, 31)])}"
        imm = rng.choice(CORNERS) if rng.random() < 0.5 else rng.getrandbits(32)
        registers = [0, 1, 2, 3, 4, 16, 20, rng.randrange(32)]
        source, source2 = (f"r{rng.choice(registers)}" for _ in range(2))
        if target in NARROW:
            self.narrow(target, source, imm)
        else:
            self.asm.alu(rng.choice(ALU), target, source, source2, imm)

    def narrow(self, target: str, source: str, imm: int) -> None:
        """Write a field of less than 32 bits a value that fits, whatever `source` holds."""
        rng, width = self.rng, WIDTHS[target]
        fitting = rng.choice([imm % (1 << width), (1 << width) - 1])
        opcode = rng.choice([Opcode.AND, Opcode.MIN, Opcode.SHR, Opcode.ADD, Opcode.XOR, Opcode.MAX])
        if opcode == Opcode.SHR:
            self.asm.shr(target, source, imm=imm - imm % 32 + rng.randrange(32 - width, 32))
        else:
            self.asm.alu(opcode, target, source if opcode in (Opcode.AND, Opcode.MIN) else "r0", imm=fitting)

    def go(self, tokens: list[int]) -> None:
        unit = self.rng.choice(list(Unit))
        waits = self.some(i for i in range(SEMAPHORES) if tokens[i] and self.consumer[i] == unit)
        signals = self.some(i for i in range(SEMAPHORES) if tokens[i] < 3) if self.rng.random() < 0.4 else []
        for i in waits:
            tokens[i] -= 1
        for i in signals:
            tokens[i] += 1
        self.asm.go(unit, waits, signals)

    def loop(self, depth: int, statements: int) -> None:
        count = self.rng.choice([0, 1, 1, 2, 3])
        how = self.rng.random()
        if how < 0.5:
            body = self.asm.loop(count)
        elif how < 0.75:
            self.asm.set(LOOP_REGISTER, (count - 5) % 2**32)
            body = self.asm.loop(LOOP_REGISTER, 5)          # wraps around
        else:
            body = self.asm.loop(SMALL_ARGUMENT)
        with body:
            self.block(depth + 1, statements)

    def nest(self, depth: int) -> None:
        with self.asm.loop(self.rng.choice([1, 1, 2])):
            if depth + 1 < LOOP_DEPTH:
                self.nest(depth + 1)
            else:
                self.block(LOOP_DEPTH, 2)

    # Mistakes -------------------------------------------------------------------------------------------------

    def bad_opcode(self) -> None:
        self.asm.word(self.rng.getrandbits(56) << 8 | self.rng.choice([0, 0x0A, 0x15, 0x24, 0x40, 0xFF]))

    def bad_destination(self) -> None:
        self.asm.word(self.rng.choice([len(DESTINATIONS), 255]) << 8 | self.rng.choice(ALU))

    def bad_source(self) -> None:
        shift = self.rng.choice([16, 24])
        self.asm.word(self.rng.choice([32, 255]) << shift | self.rng.choice(ALU))

    def bad_count(self) -> None:
        self.asm.word(self.rng.choice([32, 255]) << 16 | Opcode.LOOP)

    def too_wide(self) -> None:
        name = self.rng.choice(NARROW)
        self.asm.set(name, self.rng.choice([1 << WIDTHS[name], self.rng.randrange(1 << WIDTHS[name], 1 << 32), -1]))

    def stray_end(self) -> None:
        self.asm.word(Opcode.END)

    def too_deep(self) -> None:
        with self.asm.loop(0):
            self.asm.fence()
        for _ in range(LOOP_DEPTH):
            self.asm.word(1 << 32 | Opcode.LOOP)
        self.asm.word(Opcode.LOOP)                          # runs zero times: no mistake
        self.asm.word(1 << 32 | Opcode.LOOP)

    def run_away(self) -> None:
        self.asm.word(0xFFFF << 48 | Opcode.LOOP)


MISTAKES = {
    name: getattr(_Writer, name)
    for name in ("bad_opcode", "bad_destination", "bad_source", "bad_count", "too_wide", "stray_end", "too_deep",
                 "run_away")
}
