"""Phases of a run, from what drives an array or touches an accelerator's memories."""

from types import SimpleNamespace

import numpy as np

from flows.fault.campaign.phases import phases_of
from flows.fault.targets.target import Target

ACCESS = np.dtype([("address", "<u4"), ("cycle", "<u4"), ("kind", "<u4")])


def target(**stimuli):
    return Target(name="t", rtlil="", top="t", cycles=8, observed=("o",), stimuli={k: np.array(v) for k, v in stimuli.items()})


def engine(cycles, **memories):
    trace = {}
    for path, accesses in memories.items():
        trace[path.replace("_of_", ".")] = np.array([(0, cycle, kind) for cycle, kind in accesses], ACCESS)
    return SimpleNamespace(golden_cycles=cycles, access_trace=lambda: trace)


def names_of(phases):
    return [phases.names[label] for label in phases.labels]


def test_an_array():
    found = phases_of(target(load=[1, 1, 0, 0, 0, 0], streams=[0, 0, 1, 1, 1, 0]), engine(8))
    assert names_of(found) == ["load"] * 2 + ["compute"] * 3 + ["drain"] * 3


def test_an_accelerator():
    found = phases_of(target(), engine(
        100, dram_of_memory=[(5, 0), (10, 0), (90, 1), (92, 2)], dut_of_scratchpad_of_bank=[(20, 1), (30, 1), (40, 0)],
        dut_of_accumulator_of_bank=[(28, 1), (60, 1), (61, 2), (62, 0)]))
    told = names_of(found)
    expected = np.full(100, "control", object)
    expected[5:11] = "fetch"
    expected[20:31] = "load"
    expected[28:29] = "compute"             # goes before the load at the same time
    expected[60:62] = "compute"
    expected[90:93] = "store"
    assert told == expected.tolist()


def test_nothing_known():
    assert names_of(phases_of(target(), SimpleNamespace(golden_cycles=8)))[::2] == [
        "first quarter", "second quarter", "third quarter", "last quarter"]
