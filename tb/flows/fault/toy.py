"""A design small enough to know every outcome by hand, behind the protocol of the fault engines."""

import time

import numpy as np

from flows.fault.campaign.analysis import Accesses, Lifetimes
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.population import Population
from flows.fault.campaign.sampler import Sampler
from flows.fault.campaign.words import words_of
from flows.fault.netlist.sites import KINDS, SITE, STRATA, SiteRegister, Sites
from flows.fault.records import FAULT, OUTCOME, Outcome

STAGES, WIDTH, CYCLES = 8, 4, 40
MEMORY_DEPTH, MEMORY_READ = 6, 15
REGISTERS = [*((f"dut.pipe.stage_{i}", "ff", WIDTH, 1, "data") for i in range(STAGES)),
             ("dut.control.state", "ff", 2, 1, "control"), ("dut.control.parity_value", "ff", 3, 1, "data"),
             ("dut.voter.copy_0", "ff", 5, 1, "data"), ("dut.bank.array", "memory", 40, MEMORY_DEPTH, "memory")]


def toy_sites():
    """Return the sites: a shift register, a state, a checked and a voted register, a memory of two words an address."""
    rows, registers, units = [], [], ["pipe", "control", "voter", "bank"]
    for path, kind, width, depth, stratum in REGISTERS:
        first = len(rows)
        for address in range(depth):
            for low in range(0, width, 32):
                rows.append((KINDS.index(kind), min(32, width - low), STRATA.index(stratum), units.index(path.split(".")[1]),
                             len(registers), low, address, 0))
        registers.append(SiteRegister(path, width, depth, first, len(rows) - first))
    return Sites(np.array(rows, SITE), registers, units, 0)


class ToyEngine:
    """Every outcome in closed form.

    A flip of stage i shows at the output STAGES − 1 − i cycles later, if the run lasts so long: SDC. One of the state in the
    first half hangs. The checked register's flips are detected, and wrong in even cycles. The voted register's are corrected.
    Word 2 of the memory is read in cycle MEMORY_READ, word 3 is compared at the end, the others are never used.
    """

    name = "toy"
    golden_cycles = CYCLES

    def __init__(self, *, seconds=0.0, dies_after=None):
        self.sites = toy_sites()
        self.seconds, self.dies_after, self.calls = seconds, dies_after, 0

    def run(self, faults):
        if self.dies_after is not None and self.calls >= self.dies_after:
            raise KeyboardInterrupt
        self.calls += 1
        time.sleep(self.seconds)
        assert faults.dtype == FAULT
        rows = self.sites.table[faults["site"]]
        paths = [self.sites.registers[r].path for r in rows["register"]]
        outcomes = np.zeros(len(faults), OUTCOME)
        outcomes["first_difference"] = outcomes["first_flag"] = -1
        for fault, path, row, outcome in zip(faults, paths, rows, outcomes, strict=True):
            if fault["mask"]:
                outcome["outcome"] = self._outcome(path, int(row["address"]), int(fault["cycle"]))
            if outcome["outcome"] in (Outcome.DUE, Outcome.DETECTED_BENIGN):
                outcome["first_flag"] = fault["cycle"] + 1
        return outcomes

    @staticmethod
    def _outcome(path, address, cycle):
        if path.startswith("dut.pipe"):
            return Outcome.SDC if cycle + STAGES - 1 - int(path.rpartition("_")[2]) < CYCLES else Outcome.MASKED
        if path == "dut.control.state":
            return Outcome.HANG if cycle < CYCLES // 2 else Outcome.MASKED
        if path == "dut.control.parity_value":
            return Outcome.DETECTED_BENIGN if cycle % 2 else Outcome.DUE
        if path == "dut.voter.copy_0":
            return Outcome.CORRECTED
        return Outcome.SDC if address == 3 or (address == 2 and cycle <= MEMORY_READ) else Outcome.MASKED


TRACE = {"dut.bank.array": Accesses(cycles=np.array([MEMORY_READ]), addresses=np.array([2]), reads=np.array([True]),
                                    kept=np.array([3]))}


def parts(plan=None, glob="*", *, trace=True, phases=None, engine=None):
    """Return engine, words, lifetimes and sampler of a campaign on it."""
    engine = engine or ToyEngine()
    words = words_of(engine.sites, engine.sites.select(glob))
    labels = np.zeros(CYCLES, np.int64) if phases is None else phases
    population = Population(sites=words.sites, widths=words.widths, labels=words.classes, classes=words.class_names,
                            phases=labels, phase_names=("all",) if phases is None else ("first", "second"))
    return {"engine": engine, "words": words, "lifetimes": Lifetimes(words, CYCLES, TRACE if trace else {}),
            "sampler": Sampler(plan or Plan(), population)}
