"""Every bit of protected banks, registers of the bank included, wrong in every cycle of random traffic."""

from typing import Any

import numpy as np
import pytest

from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.records import Outcome
from hw.protect.memory import ProtectedBank
from tb.protect.bank_bench import bank_target
from tb.protect.mesh_bench import by_group, exhaustive


@pytest.mark.parametrize(("bank", "groups"), [
    ({"width": 64, "word": 32, "mechanism": "secded", "enables": 8}, {"data", "addr", "enables"}),
    ({"width": 32, "word": 8, "mechanism": "parity", "enables": 4}, {"array", "read"}),
], ids=["SECDED with merging", "parity of bytes"])
def test_no_single_upset_passes(bank: dict[str, Any], groups: set[str]) -> None:
    """Wrong results are flagged, all of them; with SECDED only a write that waits, which parity guards, can make one."""
    engine = VerilatorEngine(bank_target(ProtectedBank(depth=8, scrub_period=5, **bank)))
    faults = exhaustive(engine, np.arange(len(engine.sites)))
    outcomes = engine.run(faults)
    counts = np.bincount(outcomes["outcome"], minlength=len(Outcome))
    assert counts.sum() == len(faults) > 30_000
    assert counts[Outcome.SDC] == counts[Outcome.HANG] == 0
    assert counts[Outcome.DUE] > 2_000
    assert counts[Outcome.CORRECTED] > 50_000 or bank["mechanism"] == "parity"
    found = by_group(engine, faults, outcomes)
    assert {name for name, counted in found.items() if counted.get(Outcome.DUE)} == groups
