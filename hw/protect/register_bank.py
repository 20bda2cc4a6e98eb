"""The registers of a module with a parity bit, a second copy or two more copies."""

from collections.abc import Sequence
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.protect.domains import REGISTER_MECHANISMS
from hw.protect.register_copy import BankRegister, RegisterCopy, total_width

__all__ = ["PARITY_GROUP", "RegisterBank", "parity_groups"]

PARITY_GROUP = 16
"""Bits that share a parity bit, at most. A bit costs two XOR gates whatever the group (one to make, one to check), and 1/16 of a
flip-flop: about 10 % of the two gates in a 130 nm library. Half the group would double that share, twice the group would save
half of it, at one more XOR in the path to the register."""


def parity_groups(width: int) -> int:
    """Return how many parity bits `width` register bits get.

    Bit i is in group i modulo their number, and there are at least two for two bits, so that no two neighbours share one: an
    upset of two neighbouring bits is seen.
    """
    return min(width, max(2, -(-width // PARITY_GROUP)))


class RegisterBank(wiring.Component):
    """Registers that stand an upset, or tell it.

    `value` is the `next` of the cycle before. An upset of any flip-flop of the bank in a cycle is corrected in that cycle ("tmr":
    three copies, a voter for each bit, and every copy is written anew in each cycle, so that upsets do not add up) or only
    noticed ("parity": a bit for each group, computed of `next`; "dmr": a second copy, compared). `flag` tells the cycle after.
    What reads `value` may have used the wrong one by then.

    Parameters
    ----------
    mechanism : str
        "parity", "dmr" or "tmr".
    registers : sequence of BankRegister
        From bit 0 up; no name twice.

    Members
    -------
    next : In(all bits), value : Out(all bits)
    flag : Out(1)
        Registered: an upset has been corrected ("tmr") or detected (the others).

    Raises
    ------
    ValueError
        If there is no such mechanism.
    """

    keep_hierarchy = True

    def __init__(self, mechanism: str, registers: Sequence[BankRegister]):
        if mechanism not in REGISTER_MECHANISMS:
            raise ValueError(f"RegisterBank.mechanism must be one of {', '.join(REGISTER_MECHANISMS)}, not {mechanism!r}")
        self.mechanism = mechanism
        self.registers = tuple(registers)
        width = total_width(self.registers)
        super().__init__({"next": In(width), "value": Out(width), "flag": Out(1)})

    @property
    def corrects(self) -> bool:
        """Whether `flag` tells of corrections."""
        return self.mechanism == "tmr"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        upset = Signal()
        m.d.sync += self.flag.eq(upset)
        copies = []
        for index in range({"parity": 1, "dmr": 2, "tmr": 3}[self.mechanism]):
            m.submodules[f"copy_{index}"] = copy = RegisterCopy(self.registers)
            m.d.comb += copy.next.eq(self.next)
            copies.append(copy.value)
        if self.mechanism == "tmr":
            a, b, c = copies
            m.d.comb += [self.value.eq((a & b) | (a & c) | (b & c)), upset.eq(((a ^ b) | (a ^ c)).any())]
        else:
            m.d.comb += self.value.eq(copies[0])
            m.d.comb += upset.eq(copies[0] != copies[1] if self.mechanism == "dmr" else self._parity_upset(m))
        return m

    def _parity_upset(self, m: Module) -> Value:
        """Return whether any parity is wrong. Registers with and without reset have parity bits of their own."""
        checks, made, found = [], [], []
        for name, reset_less in (("parity", False), ("parity_reset_less", True)):
            bits: list[int] = []
            init: list[int] = []
            low = 0
            for register in self.registers:
                if register.reset_less == reset_less:
                    bits += range(low, low + register.width)
                    init += [register.init >> i & 1 for i in range(register.width)]
                low += register.width
            groups = parity_groups(len(bits))
            if groups:
                value = sum((sum(init[group::groups]) & 1) << group for group in range(groups))
                checks.append(BankRegister(name=name, width=groups, init=value, reset_less=reset_less))
            for group in range(groups):
                made.append(Cat(self.next[bit] for bit in bits[group::groups]).xor())
                found.append(Cat(self.value[bit] for bit in bits[group::groups]).xor())
        m.submodules.check = check = RegisterCopy(checks)
        m.d.comb += check.next.eq(Cat(made))
        return check.value != Cat(found)
