"""The lanes engine for other instruction sets than the best here: vectors of other lengths find the same, fault by fault."""

import functools
import platform
from pathlib import Path

import numpy as np
import pytest

from flows.emit import to_rtlil
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.targets.target import Target
from flows.fault.targets.workloads import array_target
from flows.toolchain import ToolError
from tb.flows.fault.everything import Everything
from tb.flows.fault.faults import GATE_KINDS, STATE_KINDS, assert_same, every_flip, random_faults

LANES = {"x86_64": {"x86-64": 4, "x86-64-v3": 8, "x86-64-v4": 16}, "aarch64": {"armv8-a": 4}}[platform.machine()]
NEEDS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512f"}
FLAGS = Path("/proc/cpuinfo").read_text().split()
MACHINES = [machine for machine in LANES if NEEDS.get(machine, FLAGS[0]) in FLAGS]
"""Those that run here."""
CYCLES = 24

pytestmark = pytest.mark.xdist_group("lanes-machines")


@functools.cache
def targets():
    """Return an array, and a design with every kind of cell and memory."""
    inputs = np.random.default_rng(5).integers(0, 256, CYCLES, dtype=np.uint32)
    return array_target(2, 2), Target(
        name="everything", rtlil=to_rtlil(Everything(), "everything"), top="everything", stimuli={"i": inputs}, cycles=CYCLES,
        observed=("sums", "products", "relations", "shifts", "memories"), detected="alarm")


@functools.cache
def native():
    return [LanesEngine(target, gates=bool(index)) for index, target in enumerate(targets())]


@pytest.mark.full
@pytest.mark.parametrize("machine", MACHINES)
def test_another_instruction_set_finds_the_same(machine):
    array, everything = native()
    faults = every_flip(array.sites, array.golden_cycles)
    other = LanesEngine(targets()[0], machine=machine)
    assert other.lanes == LANES[machine]
    assert_same(array.run(faults), other.run(faults), faults, array.sites)
    state = random_faults(everything.sites, CYCLES, 3000, seed=1, places=("ff", "memory"), kinds=STATE_KINDS)
    gates = random_faults(everything.sites, CYCLES, 3000, seed=2, places=("gate",), kinds=GATE_KINDS)
    other = LanesEngine(targets()[1], gates=True, machine=machine)
    for faults in (state, gates):
        outcomes = everything.run(faults)
        assert set(outcomes["outcome"]) > {0}
        assert_same(outcomes, other.run(faults), faults, everything.sites)


def test_an_instruction_set_that_there_is_not():
    with pytest.raises(ToolError, match=r"^the C\+\+ compiler refused lanes\w*\.cpp: "):
        LanesEngine(targets()[0], machine="z80")
