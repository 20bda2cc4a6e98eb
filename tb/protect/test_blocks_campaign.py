"""Memories and mesh of a whole accelerator under random upsets: nothing silent, and what is corrected is right."""

import numpy as np
import pytest

from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.workloads import workload_target
from hw.config import AcceleratorConfig
from sw.workloads import gemm_workload

FAULTS = 5000
CONFIG = AcceleratorConfig(rows=3, bus_width=64, protection=(
    ("scratchpad", "secded"), ("accumulator", "secded"), ("fifos", "secded"), ("engine.mesh", "abft")))


@pytest.fixture(scope="module")
def engine() -> LanesEngine:
    return LanesEngine(workload_target(CONFIG, gemm_workload(9, 10, 11)))


@pytest.mark.full
@pytest.mark.parametrize(("glob", "seen"), [
    ("dut.engine.mesh.*", Outcome.DUE), ("dut.scratchpad.bank_*", Outcome.CORRECTED),
    ("dut.accumulator.bank_*", Outcome.CORRECTED), ("dut.load.in_flight.storage.*", Outcome.CORRECTED),
    ("dut.store.*.storage.*", Outcome.CORRECTED),
    ("dut.controller.*.array*", Outcome.CORRECTED)])
def test_no_upset_of_a_protected_block_is_silent(engine: LanesEngine, glob: str, seen: Outcome) -> None:
    rng = np.random.default_rng(1)
    sites = engine.sites.select(glob)
    widths = engine.sites.bits[sites]
    chosen = rng.choice(len(sites), FAULTS, p=widths / widths.sum())
    faults = np.zeros(FAULTS, FAULT)
    faults["site"], faults["kind"] = sites[chosen], Kind.SEU
    faults["mask"] = 1 << (rng.random(FAULTS) * widths[chosen]).astype(np.int64)
    faults["cycle"] = rng.integers(0, engine.golden_cycles, FAULTS)
    counts = np.bincount(engine.run(faults)["outcome"], minlength=len(Outcome))
    assert counts[seen] > 10
    assert counts[Outcome.SDC] == counts[Outcome.PROTOCOL] == counts[Outcome.HANG] == 0
