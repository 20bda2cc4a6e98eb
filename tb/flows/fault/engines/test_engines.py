"""The engines against each other, fault by fault, on arrays; and against numpy and what is known by hand."""

import functools
import re

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.emit import to_rtlil
from flows.fault.engines.cocotb_engine import CocotbEngine
from flows.fault.engines.engine import FaultError
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.netlist.sites import sites_of
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import Target, TargetError
from flows.fault.targets.workloads import array_operands, array_target
from flows.toolchain import ToolError
from tb.flows.fault.faults import GATE_KINDS, assert_same, every_flip, random_faults

ENGINES = (LanesEngine, VerilatorEngine)


class ShiftRegister(wiring.Component):
    """Eight bits in a row; the last one is seen."""

    def __init__(self):
        super().__init__({"i": In(1), "o": Out(1), "never": Out(1)})

    def elaborate(self, platform):
        m = Module()
        stages = [Signal(name=f"stage_{i}") for i in range(8)]
        for stage, source in zip(stages, [self.i, *stages[:-1]], strict=True):
            m.d.sync += stage.eq(source)
        m.d.comb += self.o.eq(stages[-1])
        return m


@functools.cache
def array(size, gates=False):
    target = array_target(size, size)
    return target, sites_of(target, gates=gates)


@functools.cache
def engine(kind, size, gates=False):
    return kind(*array(size, gates))


@pytest.mark.parametrize("kind", ENGINES)
def test_the_exhaustive_avf_of_a_shift_register_is_that_computed_by_hand(kind):
    cycles = 20
    target = Target(name="shift", rtlil=to_rtlil(ShiftRegister(), "shift"), top="shift", cycles=cycles, observed=("o",),
                    stimuli={"i": np.arange(cycles, dtype=np.uint32) % 3 % 2})
    found = kind(target)
    faults = every_flip(found.sites, cycles)
    outcomes = found.run(faults)
    names = [*(f"stage_{i}" for i in range(7)), "o"]        # the last stage has the name of the port that it is
    stages = np.array([names.index(found.sites.path(int(site))) for site in faults["site"]])
    seen = faults["cycle"] + 7 - stages         # a flip shows when it has moved to the end, if the run lasts so long
    expected = np.where(seen < cycles, Outcome.SDC, Outcome.MASKED)
    assert len(faults) == 8 * cycles
    assert np.array_equal(outcomes["outcome"], expected)
    assert np.array_equal(outcomes["first_difference"], np.where(seen < cycles, seen, -1))
    assert (outcomes["outcome"] == Outcome.SDC).mean() == 1 - 28 / 160


@pytest.mark.parametrize("kind", ENGINES)
def test_what_was_flipped_twice_or_not_at_all_is_masked(kind):
    found = engine(kind, 2, True)
    faults = every_flip(found.sites, 4)
    faults["mask"] = 0
    assert (found.run(faults)["outcome"] == Outcome.MASKED).all()
    assert (found.run(faults)["signature"] == 0).all()


def test_the_run_without_faults_is_numpy_s():
    outputs = engine(VerilatorEngine, 8).golden_outputs()
    activations, weights = array_operands(8, 8)
    valid = outputs["valid"][:, 0] == 1
    psums = np.stack([outputs[f"psum_{c}"][valid, 0] for c in range(8)], 1).astype(np.int64)
    assert np.array_equal(psums - (psums >> 19 << 20), (activations @ weights).reshape(-1, 8))


def test_snapshots_change_nothing():
    found = engine(VerilatorEngine, 8)
    faults = random_faults(found.sites, found.golden_cycles, 4000, seed=1)
    assert_same(found.run(faults), found.run_from_reset(faults), faults, found.sites)


def test_lanes_and_verilator_agree_on_every_flip_in_the_2x2_array():
    one, other = (engine(kind, 2, True) for kind in ENGINES)
    assert one.golden_cycles == other.golden_cycles
    faults = every_flip(one.sites, one.golden_cycles)
    outcomes = one.run(faults)
    assert len(faults) == one.golden_cycles * one.sites.bits[one.sites.of_kind("ff")].sum()
    assert_same(outcomes, other.run(faults), faults, one.sites)
    assert set(outcomes["outcome"]) == {Outcome.MASKED, Outcome.SDC}


def test_lanes_and_verilator_agree_on_random_faults_of_every_kind_in_the_8x8_array():
    one, other = (engine(kind, 8) for kind in ENGINES)
    faults = random_faults(one.sites, one.golden_cycles, 8000, seed=7)
    assert_same(one.run(faults), other.run(faults), faults, one.sites)


def test_lanes_and_verilator_agree_on_gates():
    one, other = (engine(kind, 2, True) for kind in ENGINES)
    faults = random_faults(one.sites, one.golden_cycles, 4000, seed=8, places=("gate",), kinds=GATE_KINDS)
    outcomes = one.run(faults)
    assert_same(outcomes, other.run(faults), faults, one.sites)
    assert set(outcomes["outcome"]) == {Outcome.MASKED, Outcome.SDC}


def test_cocotb_agrees_on_random_faults_of_every_kind():
    one, other = (engine(kind, 2, True) for kind in (LanesEngine, CocotbEngine))
    assert one.golden_cycles == other.golden_cycles
    faults = np.concatenate([random_faults(one.sites, one.golden_cycles, 80, seed=2),
                             random_faults(one.sites, one.golden_cycles, 80, seed=3, places=("gate",), kinds=GATE_KINDS)])
    assert_same(one.run(faults), other.run(faults), faults, one.sites)


def test_a_fault_that_sleeps_is_seen_when_it_wakes():
    """Stuck where the golden run has the same value for a while, alone in its vector."""
    one, other = (engine(kind, 2, True) for kind in ENGINES)
    faults = random_faults(one.sites, one.golden_cycles, 300, seed=9, kinds=(Kind.STUCK0, Kind.STUCK1))
    alone = np.concatenate([one.run(faults[i:i + 1]) for i in range(len(faults))])
    assert_same(alone, other.run(faults), faults, one.sites)


def test_few_snapshots_are_enough(monkeypatch):
    faults = random_faults(engine(VerilatorEngine, 2, True).sites, 88, 500, seed=10)
    expected = engine(VerilatorEngine, 2, True).run(faults)
    for size in (0, 20_000, 100_000):
        monkeypatch.setattr("flows.fault.engines.verilator_engine.SNAPSHOT_BYTES", size)
        found = VerilatorEngine(*array(2, True))
        assert_same(found.run(faults), expected, faults, found.sites)


def test_without_cocotb_its_engine_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = "cocotb not found (the engine of that name injects with it): install it with 'pip install cocotb~=2.1.0'"
    with pytest.raises(ToolError, match=f"^{re.escape(text)}$"):
        CocotbEngine(*array(2, True))


@pytest.mark.parametrize("kind", ENGINES)
def test_stopping_at_the_first_wrong_word_finds_the_same_faults_silent(kind):
    found = engine(kind, 8)
    faults = random_faults(found.sites, found.golden_cycles, 1000, seed=4)
    whole, short = found.run(faults), found.run(faults, stop_at_first_sdc=True)
    assert np.array_equal(whole["outcome"], short["outcome"])
    assert np.array_equal(whole["first_difference"], short["first_difference"])
    assert short["wrong_words"].sum() < whole["wrong_words"].sum()


@pytest.mark.parametrize("kind", ENGINES)
def test_the_order_of_faults_does_not_matter(kind):
    found = engine(kind, 2, True)
    faults = random_faults(found.sites, found.golden_cycles, 500, seed=5)
    order = np.random.default_rng(6).permutation(len(faults))
    assert_same(found.run(faults)[order], found.run(faults[order]), faults[order], found.sites)
    alone = np.concatenate([found.run(faults[i:i + 1]) for i in range(50)])
    assert_same(found.run(faults)[:50], alone, faults[:50], found.sites)


@pytest.mark.parametrize(("values", "text"), [
    ((10_000, 1, 0, 1, 0), r"site of fault 1 must be below \d+, not 10000"),
    ((0, 1, 88, 1, 0), "cycle of fault 1 must be below 88, the run's length, not 88"),
    ((0, 1, 0, 1, 9), "kind of fault 1 must be below 7, not 9"),
    ((0, 1 << 31, 0, 1, 0), "mask of fault 1 must be within the bits of its site, not 2147483648"),
    ((0, 1, 0, 1, Kind.SET), "site of fault 1 must be a gate for kind SET, not 0"),
    ((0, 1, 0, 1, Kind.BUS), "site of fault 1 must be a bus for kind BUS, not 0"),
    ((0, 1, 0, 0, Kind.INTERMITTENT), "duration of fault 1 must be at least 1 cycle for kind INTERMITTENT, not 0"),
])
@pytest.mark.parametrize("kind", ENGINES)
def test_impossible_faults_are_refused(kind, values, text):
    faults = np.zeros(2, FAULT)
    faults["duration"] = 1
    faults[1] = values
    with pytest.raises(FaultError, match=f"^{text}$"):
        engine(kind, 2, True).run(faults)


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_no_list_of_faults_is_refused(kind):
    with pytest.raises(FaultError, match=r"^faults must be an array of FAULT rows, not of float64$"):
        engine(kind, 2, True).run(np.zeros(3))


@pytest.mark.parametrize(("changes", "text"), [
    ({"observed": ("p",)}, "Target.observed must name an output of 'shift', not 'p'"),
    ({"stimuli": {"o": np.zeros(4, np.uint32)}}, "Target.stimuli must name an input of 'shift', not 'o'"),
    ({"taps": {"bus": "x"}}, "Target.taps must name an input of 'shift', not 'x'"),
    ({"valid": {"o": "v"}}, "Target.valid must name an output of 'shift', not 'v'"),
    ({"detected": "x"}, "Target.detected must name an output of 'shift', not 'x'"),
    ({"observed_memory": {"m": [(0, 1)]}}, "Target.observed_memory must name a memory of 'shift', not 'm'"),
    ({"contents": {"m": np.zeros((1, 1), np.uint32)}}, "Target.contents must name a memory of 'shift', not 'm'"),
    ({"cycles": 0, "limit": 9, "done": "never"},
     "workload 'shift' fails without faults, after 9 cycles: 'never' does not rise within 9 cycles"),
])
@pytest.mark.parametrize("kind", ENGINES)
def test_a_target_that_does_not_fit_its_netlist_is_refused(kind, changes, text):
    valid = {"name": "shift", "rtlil": to_rtlil(ShiftRegister(), "shift"), "top": "shift", "cycles": 20, "observed": ("o",)}
    target = Target(**{**valid, **changes})
    with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
        kind(target, sites_of(Target(**valid)))
