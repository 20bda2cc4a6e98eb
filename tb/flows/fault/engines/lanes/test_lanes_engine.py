"""The lanes engine against an interpreter of the netlist that shares nothing with it, and against what is known by hand."""

import functools

import numpy as np
import pytest

from flows.emit import to_rtlil
from flows.fault.engines.engine import FaultError
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import Target, TargetError
from tb.flows.fault.everything import Everything
from tb.flows.fault.reference import Interpreter

CYCLES = 24
OBSERVED = ("sums", "products", "relations", "shifts", "memories")
INPUTS = np.random.default_rng(5).integers(0, 256, CYCLES, dtype=np.uint32)


@functools.cache
def rtlil():
    return to_rtlil(Everything(), "everything")


def memory_path():
    return next(iter(Interpreter(rtlil(), "everything").memories))


@functools.cache
def engine(observed=OBSERVED, memory=False, done=None):
    return LanesEngine(Target(
        name="everything", rtlil=rtlil(), top="everything", stimuli={"i": INPUTS}, cycles=0 if done else CYCLES, done=done,
        limit=60 if done else 0, watchdog=5, observed=observed, detected="alarm" if memory else None,
        observed_memory={memory_path(): [(0, 3), (4, 5)]} if memory else {}))


def run(faults=(), done=None, cycles=CYCLES):
    """Return each cycle's outputs of a run in which registers and memory words are flipped: rows (cycle, path, mask, address)."""
    machine = Interpreter(rtlil(), "everything")
    rows = []
    for cycle in range(cycles):
        for at, path, mask, address in faults:
            if at == cycle:
                machine.flip(path, mask, address)
        rows.append(machine.settle({"i": INPUTS[min(cycle, CYCLES - 1)]}))
        if done and rows[-1][done]:
            break
        if cycle + 1 < cycles:
            machine.edge()
    return rows, machine.memories[memory_path()][1]


@functools.cache
def golden():
    return run()


def some_flips(found, count, seed, *kinds):
    rng = np.random.default_rng(seed)
    faults = np.zeros(count, FAULT)
    faults["site"] = rng.choice(found.sites.of_kind(*kinds), count)
    faults["mask"] = 1 << rng.integers(0, found.sites.bits[faults["site"]])
    faults["cycle"] = rng.integers(0, found.golden_cycles, count)
    return faults


def place_of(found, fault):
    row = found.sites.table[fault["site"]]
    return int(fault["cycle"]), found.sites.path(int(fault["site"])), int(fault["mask"]) << int(row["low"]), int(row["address"])


def read_register(found, path):
    return ".read_" in path


def words(rows):
    """Return the observed outputs as 32-bit words, (cycles, words)."""
    outputs = Interpreter(rtlil(), "everything").netlist.outputs
    places = [(port, low) for port in OBSERVED for low in range(0, len(outputs[port]), 32)]
    return np.array([[row[port] >> low & 0xFFFFFFFF for port, low in places] for row in rows], np.uint64)


def test_every_flip_shows_where_and_when_the_interpreter_says():
    found = engine()
    faults = some_flips(found, 150, 1, "ff", "memory")
    faults = faults[[not read_register(found, found.sites.path(int(site))) for site in faults["site"]]]
    outcomes = found.run(faults)
    right = words(golden()[0])
    for fault, outcome in zip(faults, outcomes, strict=True):
        wrong = words(run([place_of(found, fault)])[0]) != right
        assert outcome["wrong_words"] == wrong.sum(), place_of(found, fault)
        assert outcome["outcome"] == (Outcome.SDC if wrong.any() else Outcome.MASKED)
        assert outcome["first_difference"] == (np.flatnonzero(wrong.any(1))[0] if wrong.any() else -1)
    assert 0.1 < (outcomes["outcome"] == Outcome.SDC).mean() < 0.99


def test_memories_are_compared_at_the_end_and_flags_noted():
    found = engine(observed=(), memory=True)
    faults = some_flips(found, 150, 2, "ff", "memory")
    faults = faults[[not read_register(found, found.sites.path(int(site))) for site in faults["site"]]]
    site, mask = found.sites.site_of("child.odd", 5)        # of which it is flagged at once
    faults["site"][0], faults["mask"][0], faults["cycle"][0] = site, mask, 0
    outcomes, corrupted = found.run(faults), found.corruptions(faults)
    right = golden()[1]
    seen = set()
    for fault, outcome, words_of in zip(faults, outcomes, corrupted, strict=True):
        rows, memory = run([place_of(found, fault)])
        wrong = [(3 * address + chunk, right[address] >> 32 * chunk & 0xFFFFFFFF, memory[address] >> 32 * chunk & 0xFFFFFFFF)
                 for address in (0, 1, 2, 4) for chunk in range(3)]
        wrong = [row for row in wrong if row[1] != row[2]]
        flags = [cycle for cycle, row in enumerate(rows) if row["alarm"]]
        assert [tuple(map(int, row)) for row in words_of.get(memory_path(), [])] == wrong
        assert outcome["wrong_words"] == len(wrong)
        assert outcome["first_flag"] == (flags[0] if flags else -1)
        expected = {(0, 0): Outcome.MASKED, (0, 1): Outcome.DETECTED_BENIGN, (1, 0): Outcome.SDC, (1, 1): Outcome.DUE}
        assert outcome["outcome"] == expected[bool(wrong), bool(flags)]
        assert outcome["first_difference"] == (CYCLES - 1 if wrong else -1)
        seen.add(int(outcome["outcome"]))
    assert seen >= {Outcome.MASKED, Outcome.DETECTED_BENIGN, Outcome.SDC}


def test_a_run_that_does_not_end_hangs_and_one_that_ends_late_is_compared_then():
    found = engine(observed=(), memory=True, done="done")
    assert (found.golden_cycles, found.deadline) == (21, 47)
    site, _ = found.sites.site_of("count")
    faults = np.zeros(5 * 6, FAULT)
    faults["site"], faults["cycle"], faults["mask"] = site, np.repeat(np.arange(0, 21, 5), 6), np.tile(1 << np.arange(6), 5)
    outcomes = found.run(faults)
    for fault, outcome in zip(faults, outcomes, strict=True):
        rows, memory = run([place_of(found, fault)], "done", found.deadline)
        hangs = not rows[-1]["done"]
        assert (outcome["outcome"] == Outcome.HANG) == (hangs and not any(row["alarm"] for row in rows))
        if not hangs:
            assert outcome["end"] <= len(rows)
            right = run((), "done", found.deadline)[1]
            assert (outcome["wrong_words"] > 0) == any(memory[i] != right[i] for i in (0, 1, 2, 4))
    assert (outcomes["outcome"] == Outcome.HANG).any()


def test_two_flips_of_a_bit_in_one_cycle_are_none_and_an_empty_mask_is_masked():
    found = engine()
    faults = some_flips(found, 300, 3, "ff", "memory")
    faults["mask"] = 0
    outcomes = found.run(faults)
    assert (outcomes["outcome"] == Outcome.MASKED).all()
    assert (outcomes["signature"] == 0).all()
    assert (outcomes["end"] == faults["cycle"] + 1).all()
    twice = some_flips(found, 50, 4, "ff")
    twice["kind"], twice["duration"] = Kind.INTERMITTENT, 1
    once = twice.copy()
    once["kind"] = Kind.SEU
    assert np.array_equal(found.run(twice), found.run(once))


def test_a_stuck_bit_is_a_flip_in_each_cycle_in_which_it_is_the_other():
    found = engine()
    site, mask = found.sites.site_of("count", 2)
    fault = np.zeros(1, FAULT)
    fault["site"], fault["mask"], fault["cycle"], fault["kind"], fault["duration"] = site, mask, 3, Kind.STUCK1, 4
    machine, wrong = Interpreter(rtlil(), "everything"), []
    right = words(golden()[0])
    for cycle in range(CYCLES):
        bits = machine.registers["count"].connections["Q"]
        if 3 <= cycle < 7 and not machine.number(bits) & 4:
            machine.flip("count", 4)
        wrong.append(words([machine.settle({"i": INPUTS[cycle]})])[0] != right[cycle])
        machine.edge()
    assert found.run(fault)["wrong_words"][0] == np.sum(wrong) > 0


def test_the_access_trace_says_when_words_are_read_and_written():
    trace = engine().access_trace()[memory_path()]
    expected = []
    machine = Interpreter(rtlil(), "everything")
    cell, stored = machine.memories[memory_path()]
    ports = cell.connections
    for cycle in range(CYCLES):
        machine.settle({"i": INPUTS[cycle]})
        for port in range(3):
            address = machine.number(ports["RD_ADDR"][3 * port:3 * port + 3])
            clocked = cell.number("RD_CLK_ENABLE") >> port & 1
            if address < len(stored) and (not clocked or machine.number([ports["RD_EN"][port]])):
                expected.append((address, cycle, 0))
        mask = machine.number(ports["WR_EN"])
        address = machine.number(ports["WR_ADDR"])
        if mask and address < len(stored):
            expected.append((address, cycle, 1 if mask == (1 << 72) - 1 else 2))
        machine.edge()
    assert sorted(map(tuple, trace.tolist())) == sorted(expected)
    assert {kind for _, _, kind in expected} == {0, 1, 2}
    ended = engine(observed=(), memory=True, done="done")           # clocked on to the deadline, but the run is over
    assert ended.golden_cycles < CYCLES < ended.deadline
    assert sorted(map(tuple, ended.access_trace()[memory_path()].tolist())) == sorted(
        row for row in expected if row[1] < ended.golden_cycles)


def test_a_fault_after_the_run_is_refused():
    faults = np.zeros(2, FAULT)
    faults["cycle"] = 3, CYCLES
    with pytest.raises(FaultError, match=rf"^cycle of fault 1 must be below {CYCLES}, the run's length, not {CYCLES}$"):
        engine().run(faults)


def test_a_flag_of_several_bits_is_refused():
    with pytest.raises(TargetError, match=r"^relations must have one bit, not 24$"):
        LanesEngine(Target(name="flags", rtlil=rtlil(), top="everything", cycles=4, observed=("sums",), detected="relations"))
