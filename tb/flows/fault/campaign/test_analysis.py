"""What can be seen of a memory word, against a run of every flip through a tiny memory."""

import numpy as np
import pytest

from flows.fault.campaign.analysis import Accesses, Lifetimes
from flows.fault.campaign.words import Words, group_of

CYCLES, DEPTH = 40, 6


def words():
    """A register, then a memory of 6 words in 2 chunks each."""
    return Words.of(sites=np.arange(1 + 2 * DEPTH), widths=[4] + [8] * 2 * DEPTH, lows=[0, *[0, 32] * DEPTH],
                    paths=["dut.a", *["dut.memory"] * 2 * DEPTH], units=["a"] + ["memory"] * 2 * DEPTH,
                    classes=["data"] + ["memory"] * 2 * DEPTH, memory=[False] + [True] * 2 * DEPTH,
                    addresses=[0, *np.repeat(np.arange(DEPTH), 2)])


def random_run(seed):
    """Return accesses, some of them in the same cycle, and whether a flip in (address, cycle) is seen by anyone."""
    rng = np.random.default_rng(seed)
    reads = {(int(rng.integers(DEPTH - 1)), int(t)) for t in rng.integers(CYCLES, size=25)}
    writes = {(int(rng.integers(DEPTH - 1)), int(t)) for t in rng.integers(CYCLES, size=25)}
    kept = {1, 3, DEPTH - 1}                # of which the last is never touched
    seen = np.zeros((DEPTH, CYCLES), bool)
    for address in range(DEPTH):
        for start in range(CYCLES):
            flipped = True
            for t in range(start, CYCLES):
                seen[address, start] |= flipped and (address, t) in reads
                flipped &= (address, t) not in writes
            seen[address, start] |= flipped and address in kept
    both = sorted([(t, a, True) for a, t in reads] + [(t, a, False) for a, t in writes], key=lambda _: rng.random())
    cycles, addresses, is_read = map(np.array, zip(*both, strict=True))
    return Accesses(cycles=cycles, addresses=addresses, reads=is_read, kept=np.array(sorted(kept))), seen


@pytest.mark.parametrize("seed", range(5))
def test_alive_is_what_somebody_sees(seed):
    accesses, seen = random_run(seed)
    lifetimes = Lifetimes(words(), CYCLES, {"dut.memory": accesses})
    rows, cycles = (grid.ravel() for grid in np.meshgrid(np.arange(1 + 2 * DEPTH), np.arange(CYCLES), indexing="ij"))
    alive = lifetimes.alive(rows, cycles).reshape(-1, CYCLES)
    assert alive[0].all()
    assert np.array_equal(alive[1::2], seen)
    assert np.array_equal(alive[2::2], seen)
    assert 0 < seen.mean() < 1


def test_accesses_after_the_run_are_refused():
    late = Accesses(cycles=np.array([3, CYCLES]), addresses=np.array([0, 1]), reads=np.array([True, True]), kept=np.array([0]))
    with pytest.raises(ValueError, match=rf"^accesses to dut\.memory must be in the run's {CYCLES} cycles, not in cycle 40$"):
        Lifetimes(words(), CYCLES, {"dut.memory": late})


@pytest.mark.parametrize("seed", range(5))
def test_live_cycles_are_counted_by_label(seed):
    accesses, seen = random_run(seed)
    labels = np.random.default_rng(seed).integers(3, size=CYCLES)
    counts = Lifetimes(words(), CYCLES, {"dut.memory": accesses}).live_cycles(labels, 4)
    assert counts[0].tolist() == [*np.bincount(labels, minlength=3), 0]
    for label in range(3):
        assert np.array_equal(counts[1::2, label], seen[:, labels == label].sum(1))
    assert not counts[:, 3].any()


def test_a_memory_that_nobody_touches_is_dead_and_one_that_is_not_known_is_alive():
    empty = np.zeros(0, np.int64)
    nobody = Accesses(cycles=empty, addresses=empty, reads=empty.astype(bool), kept=empty)
    rows = np.arange(13)
    assert Lifetimes(words(), CYCLES, {"dut.memory": nobody}).alive(rows, rows).tolist() == [True] + [False] * 12
    unknown = Lifetimes(words(), CYCLES, {"dut.other": nobody})
    assert unknown.alive(rows, rows).all()
    assert not unknown.known
    assert unknown.live_cycles(np.zeros(CYCLES, np.int64), 1).tolist() == [[CYCLES]] * 13


@pytest.mark.parametrize(("path", "group"), [
    ("engine.mesh.row_3.pe_15.psum_held", "engine.mesh.row_*.pe_*.psum_held"), ("bank_0", "bank_*"), ("row_1_2.x", "row_*_*.x"),
    ("exp2.s_1", "exp2.s_*"), ("fetch.pc", "fetch.pc"), ("s2_valid", "s2_valid")])
def test_registers_of_one_group(path, group):
    assert group_of(path) == group


def test_rows_of_sites():
    some = Words.of(sites=[9, 2, 5], widths=[1, 2, 3], lows=[0, 0, 0], paths=["b", "a", "b"], units=["u", "v", "u"],
                    classes=["data"] * 3)
    assert some.rows_of(np.array([2, 9, 9, 5], np.uint32)).tolist() == [1, 0, 0, 2]
    assert some.bits == 6
    assert [some.unit_names[u] for u in some.units] == ["u", "v", "u"]
    assert [some.group_names[g] for g in some.groups] == ["b", "a", "b"]
