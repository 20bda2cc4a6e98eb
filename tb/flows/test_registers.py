"""Registers by name, over a dictionary."""

import pytest

from flows.registers import Registers
from hw.regs import COUNTERS, REGISTERS, register


class Bank:
    def __init__(self):
        self.values = {entry.offset: 0 for entry in REGISTERS}

    def read(self, addr: int) -> int:
        return self.values[addr]

    def write(self, addr: int, value: int) -> None:
        self.values[addr] = value


def test_fields_are_put_together_and_taken_apart():
    bank = Bank()
    registers = Registers(bank)
    registers.write("IRQ_ENABLE", error=1)
    assert bank.values[register("IRQ_ENABLE").offset] == 2
    assert registers.fields("IRQ_ENABLE") == {"done": 0, "error": 1}
    registers.write("PROGRAM_ADDR", 0x1234)
    assert registers.read("PROGRAM_ADDR") == 0x1234
    bank.values[register("QUEUES").offset] = 0x04030201
    assert registers.fields("QUEUES") == {"load": 1, "matrix": 2, "vector": 3, "store": 4}


def test_counters_have_64_bits():
    bank = Bank()
    bank.values[register("MACS_LO").offset], bank.values[register("MACS_HI").offset] = 5, 2
    counters = Registers(bank).counters()
    assert counters["macs"] == (2 << 32) + 5
    assert counters.keys() == {counter.name for counter in COUNTERS}


def test_an_unknown_field_is_refused():
    with pytest.raises(KeyError, match=r"register CONTROL has fields start, abort, not stop"):
        Registers(Bank()).write("CONTROL", stop=1)
