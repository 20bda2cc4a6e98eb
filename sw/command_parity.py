"""Check bits of instructions: parity over every third bit of an instruction and of its index in the program; see `hw.isa`."""

import numpy as np
import numpy.typing as npt

from hw.isa import CHECK_BITS, CHECK_LOW, INSTRUCTION_BYTES, REGISTERS, Opcode

__all__ = ["ParityError", "syndromes", "with_checks", "without_checks"]

Words = npt.NDArray[np.uint64]

_FIELD = np.uint64(((1 << CHECK_BITS) - 1) << CHECK_LOW)
_CLASSES = [np.uint64(sum(1 << bit for bit in range(8 * INSTRUCTION_BYTES) if bit % CHECK_BITS == i)) for i in range(CHECK_BITS)]


class ParityError(ValueError):
    """Instructions that cannot have check bits."""


def syndromes(words: Words) -> npt.NDArray[np.int64]:
    """Return which checks of each instruction of a program fail, (n,) uint64 → (n,): bit i for check i."""
    covered = words ^ np.arange(len(words), dtype=np.uint64)
    odd = [np.bitwise_count(covered & mask) & 1 for mask in _CLASSES]
    failing: npt.NDArray[np.int64] = sum((bit.astype(np.int64) << i for i, bit in enumerate(odd)), np.zeros(len(words), np.int64))
    return failing


def without_checks(words: Words) -> Words:
    """Return instructions with their check bits cleared, (n,) uint64."""
    return words & ~_FIELD


def with_checks(words: Words) -> Words:
    """Return a program's instructions with their check bits set, (n,) uint64.

    Raises
    ------
    ParityError
        If a word has something else in the place of the check bits; the text names the instruction.
    """
    taken = np.flatnonzero(words & _FIELD)
    if taken.size:
        word = int(words[taken[0]])
        name = Opcode(word & 0xFF).name if word & 0xFF in set(Opcode) else f"{word & 0xFF:#04x}"
        raise ParityError(f"field c of instruction {taken[0]} ({name}) must be below {REGISTERS} to have check bits, "
                          f"not {word >> 24 & 0xFF}")
    failing = syndromes(words).astype(np.uint64)
    checked = words.copy()
    for bit in range(CHECK_LOW, CHECK_LOW + CHECK_BITS):
        checked |= (failing >> np.uint64(bit % CHECK_BITS) & np.uint64(1)) << np.uint64(bit)
    return checked
