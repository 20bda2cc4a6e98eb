"""One copy of the registers of a bank, a module of its own so that synthesis cannot merge it with another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BankRegister", "RegisterCopy", "total_width"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BankRegister:
    """A register of a bank.

    Attributes
    ----------
    name : str
        What its flip-flops are called.
    width : int
        In bits, at least 1.
    init : int
        Value after power-up and reset.
    reset_less : bool
        The reset leaves it as it is.
    """

    name: str
    width: int
    init: int = 0
    reset_less: bool = False


def total_width(registers: Sequence[BankRegister]) -> int:
    """Return the bits of all registers together."""
    return sum(register.width for register in registers)


class RegisterCopy(wiring.Component):
    """Flip-flops, nothing else: `value` is the `next` of the cycle before.

    Parameters
    ----------
    registers : sequence of BankRegister
        From bit 0 up; no name twice.

    Members
    -------
    next : In(all bits)
    value : Out(all bits)
    """

    keep_hierarchy = True

    def __init__(self, registers: Sequence[BankRegister]):
        self.registers = tuple(registers)
        width = total_width(self.registers)
        super().__init__({"next": In(width), "value": Out(width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = []
        for register in self.registers:
            # The attributes are for tools that flatten all the same.
            held.append(Signal(register.width, name=register.name, init=register.init, reset_less=register.reset_less,
                               attrs={"keep": "true", "dont_merge": "true"}))
        m.d.sync += Cat(held).eq(self.next)
        m.d.comb += self.value.eq(Cat(held))
        return m
