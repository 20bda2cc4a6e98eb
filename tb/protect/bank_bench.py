"""A protected bank under random traffic as a target of fault injection."""

import random
from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.emit import to_rtlil
from flows.fault.targets.target import Target
from hw.protect.memory import ProtectedBank

__all__ = ["BankBench", "bank_target"]


class BankBench(wiring.Component):
    """A bank and a register that says when its data are those of a read.

    Parameters
    ----------
    bank : ProtectedBank

    Members
    -------
    read_addr, read_en, write_addr, write_data, write_en : In
        As in the bank.
    valid : Out(1), read_data : Out
    detected, corrected : Out(1)
    """

    def __init__(self, bank: ProtectedBank):
        self.bank = bank
        inputs = ("read_addr", "read_en", "write_addr", "write_data", "write_en")
        super().__init__({
            **{name: In(len(getattr(bank, name))) for name in inputs},
            "valid": Out(1), "read_data": Out(bank.width), "detected": Out(1), "corrected": Out(1),
        })
        self._inputs = inputs

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.bank = bank = self.bank
        m.submodules.follow = follow = Module()
        valid = Signal()
        follow.d.sync += valid.eq(self.read_en & ~bank.merging)
        m.d.comb += [getattr(bank, name).eq(getattr(self, name)) for name in self._inputs]
        m.d.comb += [self.valid.eq(valid), self.read_data.eq(bank.read_data), self.detected.eq(bank.detected),
                     self.corrected.eq(bank.corrected)]
        return m


def bank_target(bank: ProtectedBank, *, cycles: int = 120, seed: int = 1) -> Target:
    """Return a bank that is written once, row by row, and then read and written at random, with idle cycles at the end."""
    rng, everything = random.Random(seed), (1 << bank.enables) - 1
    names = ("read_addr", "read_en", "write_addr", "write_data", "write_en")
    rows = []
    for cycle in range(cycles):
        fill, idle = cycle < bank.depth, cycle >= cycles - 6
        enables = everything if fill else 0 if idle else rng.choice((0, 0, everything, rng.getrandbits(bank.enables)))
        row, reads = rng.randrange(bank.depth), int(not idle and rng.random() < 0.7)
        rows.append((row, reads, cycle if fill else rng.randrange(bank.depth), rng.getrandbits(bank.width), enables))
    words = -(-bank.width // 32)
    stimuli = {name: np.array([[row[index] >> 32 * word & 0xFFFF_FFFF for word in range(words if name == "write_data" else 1)]
                               for row in rows], np.uint32) for index, name in enumerate(names)}
    return Target(name=f"bank {bank.code.suffix}", rtlil=to_rtlil(BankBench(bank), "bank_bench"), top="bank_bench",
                  stimuli=stimuli, cycles=cycles, observed=("valid", "read_data"), valid={"read_data": "valid"},
                  detected="detected", corrected="corrected", environment=("follow",))
