"""Plans and their faults: complete, replayable by index, spread as the plan says."""

import numpy as np
import pytest

from flows.fault.campaign.patterns import Patterns, lowest_bits
from flows.fault.campaign.plan import Plan, boosts_from, kind_named
from flows.fault.campaign.population import Population
from flows.fault.campaign.sampler import Sampler
from flows.fault.records import Kind


def population(**more):
    """Three words of 8, 1 and 32 bits in two classes, 10 cycles in two phases."""
    return Population(**{"sites": np.array([4, 7, 9], np.uint32), "widths": np.array([8, 1, 32]), "labels": np.array([0, 1, 0]),
                         "classes": ("data", "control"), "phases": np.repeat([0, 1], [4, 6]),
                         "phase_names": ("load", "compute"), **more})


def drawn(plan, count, people=None):
    sampler = Sampler(plan, people or population())
    return sampler.faults(sampler.indices(0, 0, count))


def pairs(faults):
    return set(zip(faults["site"].tolist(), faults["mask"].tolist(), faults["cycle"].tolist(), strict=True))


def test_sizes():
    people = population()
    assert (people.bits, people.cycles, people.size) == (41, 10, 410)


def test_exhaustive_is_every_bit_in_every_cycle_in_order_of_time():
    faults = drawn(Plan(method="exhaustive"), 410)
    assert len(pairs(faults)) == 410
    assert np.all(np.diff(faults["cycle"].astype(int)) >= 0)
    assert {site: sorted({mask for s, mask, _ in pairs(faults) if s == site}) for site in (4, 7, 9)} == {
        4: [1 << i for i in range(8)], 7: [1], 9: [1 << i for i in range(32)]}


def test_uniform_draws_all_of_them_in_another_order_and_none_twice():
    whole, exhaustive = drawn(Plan(seed=5), 410), drawn(Plan(method="exhaustive"), 410)
    assert pairs(whole) == pairs(exhaustive)
    assert not np.array_equal(whole, exhaustive)
    assert len(pairs(drawn(Plan(seed=5), 100))) == 100


@pytest.mark.parametrize("plan", [Plan(seed=9), Plan(seed=9, kind=Kind.MBU), Plan(seed=9, method="exhaustive"),
                                  Plan(seed=9, method="stratified", kind=Kind.MBU), Plan(seed=9, method="importance")])
def test_any_fault_alone(plan):
    people = population()
    sampler = Sampler(plan, people)
    strata = range(1 if plan.method == "importance" else len(sampler.names))
    indices = np.concatenate([sampler.indices(stratum, 0, 4) for stratum in strata])
    together = sampler.faults(indices)
    shuffled = np.random.default_rng(1).permutation(len(indices))
    assert np.array_equal(Sampler(plan, people).faults(indices[shuffled]), together[shuffled])
    for index, fault in zip(indices, together, strict=True):
        sampler.check(int(index))
        assert Sampler(plan, people).faults(np.array([index]))[0] == fault


def test_another_seed_is_another_sample():
    assert pairs(drawn(Plan(seed=1), 50)) != pairs(drawn(Plan(seed=2), 50))


def test_strata_have_what_their_names_say():
    sampler = Sampler(Plan(method="stratified"), population(split_bits=True))
    assert dict(zip(sampler.names, sampler.sizes, strict=True)) == {
        "data, low bits, load": 20 * 4, "data, low bits, compute": 20 * 6, "data, high bits, load": 20 * 4,
        "data, high bits, compute": 20 * 6, "control, low bits, load": 4, "control, low bits, compute": 6}
    found = [sampler.faults(sampler.indices(stratum, 0, size)) for stratum, size in enumerate(sampler.sizes)]
    assert len(set().union(*map(pairs, found))) == 410
    by_name = dict(zip(sampler.names, found, strict=True))
    assert set(by_name["control, low bits, load"]["site"]) == {7}
    assert set(by_name["data, high bits, load"]["cycle"]) == {0, 1, 2, 3}
    assert min(mask for site, mask, _ in pairs(by_name["data, high bits, compute"]) if site == 9) == 1 << 16
    assert [sampler.stratum_of(sampler.indices(s, 0, 1))[0] for s in range(6)] == list(range(6))


def test_importance_draws_more_of_what_is_boosted_and_weighs_it_less():
    sampler = Sampler(Plan(method="importance", boosts=(("*", 1.0), ("control*", 20.0))), population())
    indices = sampler.indices(0, 0, 40_000)
    strata = sampler.stratum_of(indices)
    faults, weights = sampler.faults(indices), sampler.weights(strata)
    control = faults["site"] == 7
    assert control.mean() == pytest.approx(20 / (40 + 20), abs=0.01)
    assert weights[control][0] == pytest.approx((1 / 41) / (20 / 60))
    assert (weights * control).mean() == pytest.approx(1 / 41, rel=0.05)        # unbiased all the same
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert np.bincount(faults["cycle"], minlength=10) == pytest.approx(np.full(10, 4000), rel=0.1)


def test_an_mbu_is_two_to_four_neighbours_inside_a_word():
    faults = drawn(Plan(kind=Kind.MBU, seed=3), 410)
    sizes = {site: set() for site in (4, 7, 9)}
    for site, mask, _ in pairs(faults):
        low = mask & -mask
        assert (mask // low + 1) & (mask // low) == 0, "bits are adjacent"
        assert mask < 1 << {4: 8, 7: 1, 9: 32}[site]
        sizes[site].add(mask.bit_count())
    assert sizes == {4: {2, 3, 4}, 7: {1}, 9: {2, 3, 4}}
    assert {mask.bit_count() for site, mask, _ in pairs(drawn(Plan(kind=Kind.MBU, adjacent=3), 370)) if site != 7} == {3}


@pytest.mark.parametrize(("adjacent", "places"), [(2, 7 + 1 + 31), (4, 5 + 1 + 29), (0, 7 + 6 + 5 + 1 + 31 + 30 + 29)])
@pytest.mark.parametrize("method", ["exhaustive", "uniform"])
def test_every_pattern_of_an_mbu_is_there_once(adjacent, places, method):
    """At the top of a word too, where fewer patterns begin than there are bits."""
    plan = Plan(method=method, kind=Kind.MBU, adjacent=adjacent)
    sampler = Sampler(plan, population())
    assert (sampler.sizes, sampler.population.places, sampler.population.bits) == ([10 * places], places, 41)
    faults = sampler.faults(sampler.indices(0, 0, 10 * places))
    assert len(pairs(faults)) == 10 * places
    assert {mask for site, mask, _ in pairs(faults) if site == 4} == {
        ((1 << n) - 1) << low for n in ([adjacent] if adjacent else (2, 3, 4)) for low in range(9 - n)}


def test_patterns_are_found_again():
    patterns = Patterns((2, 3, 4))
    for width in (1, 2, 3, 7, 32):
        masks = patterns.of(width)
        widths = np.full(len(masks), width)
        assert len(set(masks.tolist())) == len(masks) == patterns.counts(np.array([width]))[0]
        assert np.array_equal(patterns.places(widths, masks), np.arange(len(masks)))
        assert np.array_equal(patterns.masks(widths, np.arange(len(masks))), masks)
        assert lowest_bits(masks).tolist() == sorted(int(mask & -mask).bit_length() - 1 for mask in masks.tolist())


def test_what_a_fault_is_and_how_long():
    faults = drawn(Plan(kind=Kind.STUCK1, duration=12), 5)
    assert set(faults["kind"]) == {Kind.STUCK1}
    assert set(faults["duration"]) == {12}


def test_draws_are_as_many_as_there_are():
    sampler = Sampler(Plan(), population())
    with pytest.raises(ValueError, match=r"^a draw of stratum 'all' must be below 410, not 410$"):
        sampler.indices(0, 400, 411)


@pytest.mark.parametrize(("plan", "index", "said"), [
    (Plan(), 410, r"^index must be one of this plan, below 410, not 410$"),
    (Plan(), -1, r"^index must be one of this plan, below 410, not -1$"),
    (Plan(method="stratified"), 7 << 44,
     r"^index must be one of this plan, \(stratum << 44\) \+ place within the stratum, not \d+$"),
])
def test_an_index_that_there_is_not(plan, index, said):
    with pytest.raises(ValueError, match=said):
        Sampler(plan, population()).check(index)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Plan(method="all"), r"^method must be one of uniform, stratified, importance, exhaustive, not 'all'$"),
    (lambda: Plan(seed=-1), r"^seed must be between 0 and 2\^64 - 1, not -1$"),
    (lambda: Plan(duration=-1), r"^duration must be between 0 and 2\^32 - 1 cycles, not -1$"),
    (lambda: Plan(adjacent=5), r"^adjacent bits of an MBU must be 2, 3 or 4, not 5$"),
    (lambda: Plan(method="importance", boosts=(("a", 0.0),)), r"^boost of 'a' must be a positive number, not 0\.0$"),
    (lambda: Plan(boosts=(("a", 2.0),)), r"^boosts need the method importance, not 'uniform'$"),
    (lambda: Plan(adjacent=2), r"^adjacent bits need the kind mbu, not 'seu'$"),
    (lambda: Plan(kind=Kind.MBU, duration=3), r"^a duration needs a kind that lasts, not 'mbu'$"),
    (lambda: Sampler(Plan(method="importance", boosts=(("contrl*", 2.0),)), population()),
     r"^--boost must match a stratum, such as 'data, load', not 'contrl\*'$"),
    (lambda: boosts_from(["control"]), r"^--boost must be GLOB=FACTOR, such as 'control\*=4', not 'control'$"),
    (lambda: boosts_from(["control=x"]), r"^--boost must be GLOB=FACTOR, such as 'control\*=4', not 'control=x'$"),
    (lambda: kind_named("flip"), r"^--kind must be one of seu, mbu, set, stuck0, stuck1, intermittent, bus, not 'flip'$"),
    (lambda: population(sites=np.zeros(0, np.uint32)), r"^a population must have sites and cycles, not 0 and 10$"),
])
def test_what_cannot_be(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_what_texts_say():
    assert boosts_from(["control*=4", "x=0.5"]) == (("control*", 4.0), ("x", 0.5))
    assert kind_named("mbu") is Kind.MBU
    assert Plan(kind=Kind.SET, duration=1).to_json()["kind"] == "set"
