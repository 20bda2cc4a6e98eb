"""The split between a compute array and PIM: break-even points, sorted prefixes against brute force, memory spaces."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from hw.errors import ConfigError
from sw.pim.balance import (
    ArrayEngine,
    PimEngine,
    Split,
    best_split,
    break_even,
    op_per_byte,
    scheduler_cycles,
    split_experts,
    stage_split,
)
from sw.pim.spaces import SPACES, run_in_spaces, space_of

H100 = ArrayEngine(bandwidth=Fraction(3350), gops=Fraction(989_000))
STACKS = PimEngine(bandwidth=Fraction(13_312), rows_x=8)
EXPERT = 3 * 4096 * 14336 * 2


@pytest.mark.parametrize(("rows", "ratio"), [(8, 3.97), (16, 1.99), (24, 1.32), (32, 0.99), (64, 0.50)])
def test_speed_ratio_of_duplex(rows, ratio):
    assert float(H100.time(rows, EXPERT) / STACKS.time(rows, EXPERT)) == pytest.approx(ratio, abs=0.006)


def test_break_even():
    measured = PimEngine(bandwidth=STACKS.bandwidth, rows_x=8, efficiency=Fraction(685, 1000))
    slow = PimEngine(bandwidth=Fraction(3000), rows_x=8)
    assert break_even(H100, STACKS, EXPERT) == 24
    assert break_even(H100, measured, EXPERT) == 16
    assert break_even(H100, slow, EXPERT) == 0
    assert break_even(H100, PimEngine(bandwidth=Fraction(10**9), rows_x=8), EXPERT, most=100) == 100
    launches = PimEngine(bandwidth=STACKS.bandwidth, rows_x=8, overhead=Fraction(60_000))
    assert break_even(H100, launches, EXPERT) == 8


def test_operations_for_each_byte():
    assert op_per_byte(8, 16) == 8
    assert op_per_byte(1, 8) == 2
    assert float(op_per_byte(1, Fraction(17, 4))) == pytest.approx(3.76, abs=0.01)       # MXINT4 with its scales


def loads(rng, experts, alpha):
    return [int(n) for n in rng.multinomial(int(rng.integers(1, 500)), rng.dirichlet([alpha] * experts))]


@pytest.mark.parametrize("alpha", [0.5, 2, 10])
def test_the_sorted_prefix_is_as_good_as_brute_force(alpha):
    rng = np.random.default_rng(int(alpha * 10))
    for _ in range(40):
        tokens = loads(rng, 8, alpha)
        array = [H100.time(n, EXPERT) for n in tokens]
        pim = [STACKS.time(n, EXPERT) for n in tokens]
        split = best_split(tokens, array, pim)
        brute = min(max(sum(t for t, on in zip(array, places, strict=True) if on),
                        sum(t for t, on in zip(pim, places, strict=True) if not on))
                    for places in itertools.product((False, True), repeat=8))
        assert split.makespan == brute
        assert sorted(split.array + split.pim) == [e for e in range(8) if tokens[e]]
        assert split == split_experts(tokens, EXPERT, H100, STACKS)


def test_lists_are_ordered_and_ties_go_by_number():
    split = best_split([5, 5, 0, 9, 1], [Fraction(2)] * 5, [Fraction(n) for n in (1, 1, 0, 9, 1)])
    assert split.array == (3,)
    assert split.pim == (4, 1, 0)
    assert split.makespan == 3
    assert best_split([0, 0], [Fraction(0)] * 2, [Fraction(0)] * 2).makespan == 0
    with pytest.raises(ConfigError, match=r"^times must be one for each of 2 experts, not 1 and 2$"):
        best_split([1, 1], [Fraction(1)], [Fraction(1)] * 2)


def test_no_space_is_used_by_both_engines():
    rng = np.random.default_rng(3)
    waited = 0
    for _ in range(100):
        tokens = loads(rng, 16, 0.7)
        array = [H100.time(n, EXPERT) for n in tokens]
        pim = [STACKS.time(n, EXPERT) for n in tokens]
        split = best_split(tokens, array, pim)
        turns = run_in_spaces(split, array, pim)
        assert sorted(turn.expert for turn in turns) == sorted(split.array + split.pim)
        for a, b in itertools.combinations(turns, 2):
            apart = a.end <= b.start or b.end <= a.start
            assert apart or (a.engine != b.engine and space_of(a.expert) != space_of(b.expert))
        end = max((turn.end for turn in turns), default=Fraction(0))
        assert end >= split.makespan
        waited += end > split.makespan
    assert waited                               # spaces do put some off
    assert {space_of(e) for e in range(16)} == set(range(SPACES))


def test_stages():
    assert stage_split(2, 0) == {"projections": "array", "prefill attention": "array", "decode attention": "", "experts": "array"}
    assert stage_split(0, 2)["decode attention"] == "pim"
    assert stage_split(1, 1)["experts"] == "both"
    with pytest.raises(ConfigError, match=r"^requests must be at least one, in prefill or in decode$"):
        stage_split(0, 0)


def test_the_scheduler_is_three_passes():
    assert scheduler_cycles(64) == 212


ZERO, ONE = Fraction(0), Fraction(1)


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: ArrayEngine(bandwidth=ZERO, gops=ONE), r"ArrayEngine.bandwidth must be a number above 0, not Fraction\(0, 1\)"),
    (lambda: ArrayEngine(bandwidth=ONE, gops=-ONE), r"ArrayEngine.gops must be a number above 0, not Fraction\(-1, 1\)"),
    (lambda: ArrayEngine(bandwidth=ONE, gops=ONE, overhead=-ONE),
     r"ArrayEngine.overhead must be a number from 0 on, not Fraction\(-1, 1\)"),
    (lambda: PimEngine(bandwidth=float("nan"), rows_x=8), "PimEngine.bandwidth must be a number above 0, not nan"),
    (lambda: PimEngine(bandwidth=ONE, rows_x=0), "PimEngine.rows_x must be a whole number from 1 on, not 0"),
    (lambda: PimEngine(bandwidth=ONE, rows_x=True), "PimEngine.rows_x must be a whole number from 1 on, not True"),
    (lambda: PimEngine(bandwidth=ONE, rows_x=8, efficiency=Fraction(3, 2)),
     r"PimEngine.efficiency must be a number above 0 and at most 1, not Fraction\(3, 2\)"),
    (lambda: PimEngine(bandwidth=ONE, rows_x=8, overhead="1"), "PimEngine.overhead must be a number from 0 on, not '1'"),
    (lambda: H100.time(-1, 8), "rows must be a whole number from 0 on, not -1"),
    (lambda: STACKS.time(1, -8), "bytes must be a whole number from 0 on, not -8"),
    (lambda: STACKS.time(1, 8, 0), "weight_bits must be a whole number from 1 on, not 0"),
    (lambda: op_per_byte(1.5, 16), "rows must be a whole number from 0 on, not 1.5"),
    (lambda: op_per_byte(1, 0), "weight_bits must be a number above 0, not 0"),
    (lambda: best_split([1, -1], [ONE] * 2, [ONE] * 2), "tokens of expert 1 must be a whole number from 0 on, not -1"),
    (lambda: best_split([1], [-ONE], [ONE]), r"array's time of expert 0 must be a number from 0 on, not Fraction\(-1, 1\)"),
    (lambda: best_split([1], [ONE], [float("inf")]), "PIM's time of expert 0 must be a number from 0 on, not inf"),
    (lambda: stage_split(-1, 2), "requests in prefill must be a whole number from 0 on, not -1"),
    (lambda: stage_split(1, 0.5), "requests in decode must be a whole number from 0 on, not 0.5"),
    (lambda: scheduler_cycles(-1), "experts must be a whole number from 0 on, not -1"),
    (lambda: space_of(-1), "expert must be a whole number from 0 on, not -1"),
    (lambda: run_in_spaces(Split((0, 1), (1,), ONE), [ONE] * 2, [ONE] * 2), "an expert must be on one list, once, not 1"),
    (lambda: run_in_spaces(Split((0,), (2,), ONE), [ONE] * 3, [ONE] * 2), "expert must be between 0 and 1, not 2"),
    (lambda: run_in_spaces(Split((0,), (), ONE), [-ONE], [ONE]),
     r"array's time of expert 0 must be a number from 0 on, not Fraction\(-1, 1\)"),
])
def test_numbers_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        wrong()
