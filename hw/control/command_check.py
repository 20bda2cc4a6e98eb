"""Parity of an instruction: the check bits that the assembler has put into it."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.control.queue import PC_WIDTH
from hw.isa import CHECK_BITS, INSTRUCTION_BYTES

__all__ = ["CommandCheck"]


class CommandCheck(wiring.Component):
    """Says which checks of an instruction fail, as `hw.isa` defines them. Combinational.

    Members
    -------
    word : In(64)
    pc : In(32)
        Index of the instruction in the program.
    failing : Out(CHECK_BITS)
    """

    word: In(8 * INSTRUCTION_BYTES)
    pc: In(PC_WIDTH)
    failing: Out(CHECK_BITS)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.failing.eq(Cat(Cat(self.word[i::CHECK_BITS], self.pc[i::CHECK_BITS]).xor() for i in range(CHECK_BITS)))
        return m
