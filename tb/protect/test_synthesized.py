# amaranth: UnusedElaboratable=no
"""Injection after synthesis: every flip-flop that is left of a hardened design once Yosys has merged what it may."""

import numpy as np
import pytest

from flows.emit import to_verilog
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import Target
from flows.synth.tools import run_yosys
from hw.protect.inventory import registers_of
from tb.protect.odd import Design, Odd
from tb.protect.test_harden import CYCLES, EVERYTHING, stimuli

OPTIMIZE = ["read_verilog design.v", "hierarchy -check -top top", "proc -norom", "flatten", "opt -full", "wreduce", "opt_merge",
            "share -aggressive", "opt_dff", "opt -full", "setattr -mod -unset keep_hierarchy", "flatten", "opt_clean",
            "write_rtlil netlist.il"]
SOME = range(2, CYCLES - 2, 7)
READ_BITS, BANKS = 4, 3
REGISTERS = sum(register.bits for register in registers_of(Odd()))
BITS = {"parity": REGISTERS + 9 + BANKS, "dmr": 2 * REGISTERS + BANKS, "tmr": 3 * REGISTERS + BANKS}


@pytest.mark.parametrize("name", ["plain", "parity", "dmr", "tmr"])
def test_every_flip_flop_after_synthesis(name, tmp_path):
    (tmp_path / "design.v").write_text(to_verilog(Design(EVERYTHING.get(name, ()), asserts=False), "top"))
    run_yosys(OPTIMIZE, tmp_path, "optimize")
    inputs = np.array(stimuli(11), dtype=np.uint32)
    engine = LanesEngine(Target(
        name=name, rtlil=(tmp_path / "netlist.il").read_text(), top="top", cycles=CYCLES, observed=("o", "valid"),
        stimuli={"i": inputs[:, 0], "reset": inputs[:, 1]}, detected="detected", corrected="corrected"))
    sites = engine.sites
    faults = np.array([(site, 1 << bit, cycle, 1, Kind.SEU) for site in sites.of_kind("ff")
                       for bit in range(int(sites.table["width"][site])) for cycle in SOME], dtype=FAULT)
    outcomes = engine.run(faults)["outcome"]
    counts = {outcome: int(np.count_nonzero(outcomes == outcome)) for outcome in Outcome}
    of_memory = READ_BITS * len(SOME)       # the register behind the memory, which no rule on registers is about
    if name == "plain":
        assert counts[Outcome.SDC] > len(faults) // 2
        return
    assert counts[Outcome.SDC] == of_memory
    silent = {sites.path(int(site)) for site in faults["site"][outcomes == Outcome.SDC]}
    assert len(silent) == 1, silent
    assert len(faults) == (BITS[name] + READ_BITS) * len(SOME)
    if name == "tmr":
        assert counts[Outcome.CORRECTED] == len(faults) - of_memory
    else:
        assert counts[Outcome.DUE] + counts[Outcome.DETECTED_BENIGN] == len(faults) - of_memory
        assert counts[Outcome.DUE] > len(faults) // 3
