"""Statistics of campaigns, against the published numbers, hand values and the outcomes of repeated drawing."""

import math
import sys
from statistics import NormalDist

import numpy as np
import pytest

from flows.fault.figures.statistics import (
    Interval,
    Looks,
    Stratum,
    checked_sample_size,
    clopper_pearson,
    effective_sample_size,
    neyman_allocation,
    sample_size,
    stratified_estimate,
    stratified_interval,
    wilson,
    zero_escape_sample,
)
from flows.toolchain import ToolError

TILE = 340_368          # flip-flop bits × cycles of the 8x8 array and its 112 cycles


@pytest.mark.parametrize(("population", "sizes"), [(TILE, (384, 9341, 15819, 282424)), (10**12, (385, 9604, 16590, 1658942)),
                                                   (None, (385, 9604, 16590, 1658944))])
def test_sample_sizes_of_leveugle(population, sizes):
    asked = ((0.05, 0.95), (0.01, 0.95), (0.01, 0.99), (0.001, 0.99))
    assert tuple(sample_size(population, margin=margin, confidence=c) for margin, c in asked) == sizes


def test_a_sample_size_needs_no_table():
    z = NormalDist().inv_cdf(0.95)
    assert sample_size(None, margin=0.02, confidence=0.9, p=0.1) == math.ceil(z * z * 0.09 / 0.0004)


@pytest.mark.parametrize(("coverage", "at_95", "at_99"), [(0.9, 29, 44), (0.97, 99, 152), (0.99, 299, 459), (0.999, 2995, 4603),
                                                          (0.9999, 29956, 46050)])
def test_zero_escapes_that_a_claim_needs(coverage, at_95, at_99):
    assert (zero_escape_sample(coverage), zero_escape_sample(coverage, 0.99)) == (at_95, at_99)
    assert coverage**at_95 <= 0.05 < coverage ** (at_95 - 1)


def test_wilson_by_hand():
    z2 = 1.959963984540054**2
    low, high = wilson(8, 10)
    centre, half = (8 + z2 / 2) / (10 + z2), math.sqrt(z2) * math.sqrt(10 * 0.16 + z2 / 4) / (10 + z2)
    assert (low, high) == pytest.approx((centre - half, centre + half))
    assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 100) == pytest.approx((0, z2 / (100 + z2)))
    assert wilson(100, 100).high == 1
    assert wilson(0, 0) == clopper_pearson(0, 0) == Interval(0, 1)


def test_clopper_pearson_is_what_binomial_tails_say():
    for hits, faults in ((1, 20), (8, 10), (57, 100)):
        low, high = clopper_pearson(hits, faults)

        def at_least(k, p, faults=faults):
            return sum(math.comb(faults, i) * p**i * (1 - p) ** (faults - i) for i in range(k, faults + 1))

        assert at_least(hits, low) == pytest.approx(0.025)
        assert 1 - at_least(hits + 1, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 299, 0.9).high == pytest.approx(1 - 0.05 ** (1 / 299))        # 0.99718: 299 escape-free claim 99 %
    assert clopper_pearson(10, 10).low == pytest.approx(0.025**0.1)


def test_an_exact_interval_is_wider():
    for hits in (0, 1, 50, 99, 100):
        assert clopper_pearson(hits, 100).half_width > 0.95 * wilson(hits, 100).half_width


def test_scipy_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(ToolError, match=r"^scipy not found \(it has the quantiles of the beta distribution\): install it with "
                                        r"pip install 'heddle\[fault\]'$"):
        clopper_pearson(1, 10)


STRATA = [Stratum(population=1000, faults=100, hits=50), Stratum(population=3000, faults=100, hits=10),
          Stratum(population=40, faults=40, hits=30)]


def test_stratified_by_hand():
    p, variance = stratified_estimate(STRATA)
    assert p == pytest.approx((1000 * 0.5 + 3000 * 0.1 + 40 * 0.75) / 4040)
    assert variance == pytest.approx(((1000 / 4040) ** 2 * 0.25 / 100 * 0.9) + (3000 / 4040) ** 2 * 0.09 / 100 * (1 - 1 / 30))
    low, high = stratified_interval(STRATA)
    assert low < p < high
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(variance), rel=0.05)


def test_one_endless_stratum_is_the_plain_interval():
    for of in (wilson, clopper_pearson):
        found = stratified_interval([Stratum(population=1e15, faults=100, hits=7)], of=of)
        assert found == pytest.approx(of(7, 100, 0.95), abs=1e-6)


def test_what_is_exhausted_or_known_has_no_doubt():
    whole = [Stratum(population=40, faults=40, hits=30), Stratum(population=0, faults=0, hits=0, known=60)]
    assert stratified_estimate(whole) == pytest.approx((0.3, 0))
    assert stratified_interval(whole) == pytest.approx((0.3, 0.3))
    half = [Stratum(population=1e12, faults=100, hits=50, known=1e12)]
    assert stratified_estimate(half)[0] == pytest.approx(0.25)
    assert stratified_interval(half).half_width == pytest.approx(wilson(50, 100).half_width / 2, abs=1e-6)


def test_with_replacement_there_is_no_correction():
    many = Stratum(population=50, faults=100, hits=50, replaced=True)
    assert stratified_interval([many]) == pytest.approx(wilson(50, 100))
    assert Stratum(population=50, faults=100, hits=50).correction() == 0


def test_nothing_drawn_is_nothing_known():
    assert stratified_interval([Stratum(population=10, faults=0, hits=0)]) == (0, 1)
    assert stratified_estimate([Stratum(population=10, faults=0, hits=0)]) == (0.5, 0.25)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = (0.002, 0.03, 0.6)
    sizes = (50_000, 20_000, 1_000)
    p = sum(n * t for n, t in zip(sizes, truth, strict=True)) / sum(sizes)
    held = 0
    for _ in range(400):
        strata = [Stratum(population=size, faults=300, hits=int(rng.hypergeometric(round(size * t), size - round(size * t), 300)))
                  for size, t in zip(sizes, truth, strict=True)]
        low, high = stratified_interval(strata)
        held += low <= p <= high
    assert 0.925 < held / 400 <= 1


def test_neyman_by_hand():
    assert neyman_allocation(800, [1e6, 1e6], [0.5, 0.1]) == [500, 300]           # √¼ : √0.09
    assert neyman_allocation(1000, [1e6, 1e6, 1e6, 20], [0.5, 0.1, 0.0, 0.5]) == [594, 356, 30, 20]
    assert neyman_allocation(50, [1e6, 1e6, 20], [0.5, 0.1, 0.5]) == [30, 30, 20]     # floors come first
    assert neyman_allocation(100, [1e6, 1e6], [0.5, 0.5], floor=[70, 5]) == [70, 30]  # a pilot has drawn already
    assert neyman_allocation(1000, [500, 100], [0.5, 0.1]) == [500, 100]             # no more than there are
    assert neyman_allocation(300, [2e6, 1e6], [0, 1]) == [200, 100]                  # a pilot that says nothing
    assert sum(neyman_allocation(1000, [1e6] * 7, [0.5] * 7)) == 1000                # rounding loses nothing


def test_weights_that_cost_draws():
    assert effective_sample_size([1, 1, 1, 1]) == 4
    assert effective_sample_size([3, 1]) == pytest.approx(1.6)
    assert checked_sample_size(np.ones(100)) == pytest.approx(100)
    with pytest.raises(ValueError, match=r"^an importance sample must be worth at least 100 draws, not 99\.0: draw more faults, "
                                         r"or use scores that differ less$"):
        checked_sample_size(np.ones(99))


def test_looks_spend_no_more_than_there_is():
    looks = Looks(target=0.01)
    assert sum(1 - looks.confidence_at(k) for k in range(1, 60)) == pytest.approx(0.05)
    assert looks.confidence_at(1) == 0.975
    narrow, wide = Interval(0.1, 0.118), Interval(0.1, 0.2)
    assert looks.met([narrow, narrow])
    assert not looks.met([narrow, wide])
    assert looks.matters(0.011)
    assert not looks.matters(0.01)


def test_a_stop_by_luck_is_as_rare_as_it_says():
    """Coin of p = 0.5 looked at again and again: the interval at which it stops misses it in less than 5 % of campaigns."""
    rng = np.random.default_rng(3)
    looks, missed = Looks(target=0.02, first=500), 0
    for _ in range(300):
        hits = faults = 0
        for look in range(1, 12):
            hits += int(rng.binomial((looks.first << look - 1) - faults, 0.5))
            faults = looks.first << look - 1
            interval = wilson(hits, faults, looks.confidence_at(look))
            if looks.met([interval]):
                break
        else:
            pytest.fail("it never stops")
        missed += not interval.low <= 0.5 <= interval.high
    assert missed / 300 < 0.05


@pytest.mark.parametrize(("call", "said"), [
    (lambda: sample_size(10, margin=1.5), r"^margin must be between 0 and 1, not 1\.5$"),
    (lambda: sample_size(10, margin=0.1, p=0), r"^p must be between 0 and 1, not 0$"),
    (lambda: sample_size(10, margin=0.1, confidence=95), r"^confidence must be between 0 and 1, not 95$"),
    (lambda: zero_escape_sample(1), r"^coverage must be between 0 and 1, not 1$"),
    (lambda: wilson(11, 10), r"^hits must be between 0 and the faults \(10\), not 11$"),
    (lambda: clopper_pearson(-1, 10), r"^hits must be between 0 and the faults \(10\), not -1$"),
    (lambda: Stratum(population=5, faults=6, hits=7), r"^a stratum must have 0 ≤ hits ≤ faults and a population, not 7, 6, 5$"),
    (lambda: stratified_interval([]), r"^strata must hold at least one fault, not none$"),
    (lambda: Looks(target=0.7), r"^--ci must be between 0 and 0\.5, not 0\.7$"),
    (lambda: Looks(target=0.1).confidence_at(0), r"^look must be at least 1, not 0$"),
])
def test_what_cannot_be_asked(call, said):
    with pytest.raises(ValueError, match=said):
        call()
