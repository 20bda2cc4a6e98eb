"""The knapsack against trying everything, and against a solver of integer programs."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, milp

from flows.fault.hardening.knapsack import UNITS, Option, frontier, greedy_order


def random_groups(seed, count, *, mechanisms=("none", "parity", "dmr", "tmr")):
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(count):
        bits, rate = rng.integers(1, 500), rng.random() ** 3
        costs = np.concatenate(([0], np.sort(rng.uniform(1, 20, len(mechanisms) - 1))))
        escapes = np.concatenate(([1], np.sort(rng.uniform(0, 0.3, len(mechanisms) - 1))[::-1]))
        groups.append([Option(name=name, area=float(bits * cost), residual=float(bits * rate * escape))
                       for name, cost, escape in zip(mechanisms, costs, escapes, strict=True)])
    return groups


@pytest.mark.parametrize("seed", range(4))
def test_every_combination(seed):
    groups = random_groups(seed, 6)
    curve = frontier(groups)
    every = [(sum(o.area for o in pick), sum(o.residual for o in pick)) for pick in itertools.product(*groups)]
    best = []
    for area, residual in sorted(every):
        if not best or residual < best[-1][1] - 1e-9:
            best.append((area, residual))
    slack = sum(max(o.residual for o in options) for options in groups) / UNITS * len(groups)
    for area, residual in best:                      # for each there is one as good, up to rounding
        place = curve.cheapest(residual + slack)
        assert curve.areas[place] <= area + 1e-6
    for place in range(0, len(curve.areas), max(1, len(curve.areas) // 50)):
        chosen = [options[i] for options, i in zip(groups, curve.choice(place), strict=True)]
        assert sum(o.area for o in chosen) == pytest.approx(curve.areas[place])
        exact = sum(o.residual for o in chosen)
        assert exact <= curve.residuals[place] + 1e-9 <= exact + slack + 2e-9
    assert np.all(np.diff(curve.areas) > 0)
    assert np.all(np.diff(curve.residuals) < 0)


@pytest.mark.parametrize("share", [0.7, 0.4, 0.25])
def test_a_solver_of_integer_programs(share):
    groups = random_groups(9, 60)
    total = sum(options[0].residual for options in groups)
    place = (curve := frontier(groups)).cheapest(share * total)
    flat = [option for options in groups for option in options]
    one_of_each = np.kron(np.eye(60), np.ones(4))
    solved = milp([o.area for o in flat], integrality=np.ones(len(flat)), options={"mip_rel_gap": 0}, constraints=[
        LinearConstraint(one_of_each, 1, 1), LinearConstraint([o.residual for o in flat], -math.inf, share * total)])
    assert curve.areas[place] == pytest.approx(solved.fun, rel=1e-4)
    assert curve.areas[place] >= solved.fun - 1e-6
    chosen = [options[i] for options, i in zip(groups, curve.choice(place), strict=True)]
    assert sum(o.residual for o in chosen) <= share * total * (1 + 1e-9)


def test_nothing_and_everything():
    groups = random_groups(3, 5)
    curve = frontier(groups)
    assert curve.choice(curve.cheapest(math.inf)) == [0] * 5
    least = sum(min(o.residual for o in options) for options in groups)
    assert curve.residuals[-1] == pytest.approx(least, rel=1e-4)
    with pytest.raises(ValueError, match=r"^the residual rate must be at least [\d.]+, which is left with everything protected, "
                                         r"not 0$"):
        curve.cheapest(0)
    assert frontier([[Option(name="none", area=0, residual=0)]]).choice(0) == [0]


def test_what_pays_most_comes_first():
    groups = [[Option(name="none", area=0, residual=10), Option(name="parity", area=5, residual=0)],
              [Option(name="none", area=0, residual=10), Option(name="parity", area=2, residual=0)],
              [Option(name="none", area=0, residual=0), Option(name="parity", area=2, residual=0)]]
    assert greedy_order(groups) == [(1, 1, 5), (0, 1, 2)]


@pytest.mark.parametrize(("groups", "said"), [
    ([[]], r"^group 0 must have an option, not none$"),
    ([[Option(name="a", area=-1, residual=0)]], r"^area of option 'a' must be a number ≥ 0, not -1$"),
    ([[Option(name="a", area=0, residual=math.nan)]], r"^residual of option 'a' must be a number ≥ 0, not nan$"),
])
def test_what_cannot_be(groups, said):
    with pytest.raises(ValueError, match=said):
        frontier(groups)
