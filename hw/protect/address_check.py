"""Check of an address on a bus against the residue that has come with it."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.ports import ADDRESS_WIDTH
from hw.protect.checker import Checker
from hw.protect.residue import differ, digits, residue_sum

__all__ = ["ADDRESS_RESIDUE_BITS", "AddressCheck"]

ADDRESS_RESIDUE_BITS = 2
_LENGTH_WIDTH = 8              # of AXI4


class AddressCheck(wiring.Component, Checker):
    """Compares address plus length of a burst, modulo 3, with what they should be.

    A residue and not a parity, since addresses are sums: a parity would have to be made anew behind each adder, and would cover
    up what went wrong in it or before; the residue of a sum is the sum of the residues. Modulo 3 no single bit that is wrong, in
    a register or in a sum, goes unseen: no power of two is a multiple of 3.

    Members
    -------
    valid : In(1), addr : In(32), length : In(8)
        The burst, for as long as it is on the bus; `length` in beats less one.
    check : In(2)
        What their sum is modulo 3; 3 stands for 0 as well.
    detected : Out(1)
        One cycle later, for each cycle in which they differ.
    corrected : Out(1)
        Never.
    """

    valid: In(1)
    addr: In(ADDRESS_WIDTH)
    length: In(_LENGTH_WIDTH)
    check: In(ADDRESS_RESIDUE_BITS)
    detected: Out(1)
    corrected: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = ADDRESS_RESIDUE_BITS
        found = residue_sum(m, [*digits(self.addr, bits), *digits(self.length, bits)], bits)
        m.d.sync += self.detected.eq(self.valid & differ(m, found, self.check))
        return m
