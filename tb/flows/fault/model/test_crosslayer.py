"""Faults in tiles of a model: what the mesh makes of them in RTL, who is counted how, and the two stages of a rate."""

import math

import numpy as np
import pytest

from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.figures.statistics import wilson
from flows.fault.model import crosslayer
from flows.fault.model.crosslayer import CrossLayerResult, TileResult, cross_layer, tiles_target
from flows.fault.model.model_run import ModelRun, Tile
from flows.fault.netlist.sites import SiteError
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import TargetError
from hw.config import AcceleratorConfig
from tb.sw.decoders import CONFIGS, MODEL, random_weights

CONFIG = CONFIGS["4x4"]
STEPS = 5


@pytest.fixture(scope="module")
def engine():
    rng = np.random.default_rng(0)
    return LanesEngine(tiles_target(CONFIG, rng.integers(-128, 128, (3, STEPS, 4)), rng.integers(-128, 128, (3, 4, 4))))


@pytest.fixture(scope="module")
def run():
    weights = random_weights(MODEL)
    return ModelRun(CONFIG, MODEL, weights, np.random.default_rng(1).integers(0, MODEL.vocab, 4).tolist(), generated=2)


def fault(engine, path, bit, cycle):
    site, mask = engine.sites.site_of(path, bit)
    return np.array([(site, mask, cycle, 0, Kind.SEU)], FAULT)


def test_a_wrong_weight_is_wrong_in_all_rows_that_come_after(engine):
    """By hand: bit 6 of the weight that tile 1 multiplies flips while rows stream; the rest are off by ±64 activations."""
    activations = np.random.default_rng(0).integers(-128, 128, (3, STEPS, 4))
    slot = (4 + STEPS) + 4                          # the first of tile 1 that streams
    (wrong,) = engine.corruptions(fault(engine, "mesh.row_1.pe_2.stationary_1", 6, slot + 1 + 2 + 2))
    rows, columns = np.divmod(wrong["results.rows"]["word"].astype(int), 4)
    assert (rows.tolist(), set(columns)) == ([STEPS + 2, STEPS + 3, STEPS + 4], {2})        # rows 0 and 1 have gone by
    differences = wrong["results.rows"]["got"].astype(np.int32) - wrong["results.rows"]["golden"].astype(np.int32)
    assert np.array_equal(np.abs(differences), 64 * np.abs(activations[1, rows - STEPS, 1]))


def test_the_run_without_faults_makes_the_products(engine):
    rng = np.random.default_rng(0)
    activations, weights = rng.integers(-128, 128, (3, STEPS, 4)), rng.integers(-128, 128, (3, 4, 4))
    products = (activations @ weights).reshape(-1, 4)
    sites = engine.sites.select("mesh.*")
    faults = np.zeros(400, FAULT)
    faults["site"], faults["mask"] = np.random.default_rng(3).choice(sites, 400), 1
    faults["cycle"] = np.arange(400) % engine.golden_cycles
    seen = 0
    for wrong in engine.corruptions(faults):
        for word, golden, got in wrong.get("results.rows", ()):
            assert np.int64(np.uint32(golden).astype(np.int32)) == products[word // 4, word % 4]
            assert golden != got
            seen += 1
    assert seen > 50


def test_what_is_wrong_is_an_sdc(engine):
    faults = np.zeros(300, FAULT)
    faults["site"] = np.random.default_rng(4).choice(engine.sites.select("mesh.*"), 300)
    faults["mask"], faults["cycle"] = 1, np.arange(300) % engine.golden_cycles
    wrong = [bool(words) for words in engine.corruptions(faults)]
    assert (engine.run(faults)["outcome"] == Outcome.SDC).tolist() == wrong
    assert 0 < sum(wrong) < 300


def test_a_campaign(run):
    calls = []
    result = cross_layer(run, tiles=4, faults=60, effects=6, seed=3, progress=calls.append)
    answer = result.to_json()
    assert calls == [1, 2, 3, 4]
    assert answer["faults"] == sum(answer["outcomes"].values()) == 240
    assert answer["outcomes"]["sdc"] > answer["evaluated"] == sum(answer["subclasses"]["sdc"].values()) > 0
    assert answer["different_corruptions"] <= answer["evaluated"] <= 24
    assert math.isclose(answer["critical_rate"], answer["sdc_rate"] * answer["critical_given_sdc"])
    assert answer["ci95"][0] <= answer["sdc_rate"] <= answer["ci95"][1]
    assert answer["critical_ci95"][0] <= answer["critical_rate"] <= answer["critical_ci95"][1]
    assert sum(kernel["faults"] for kernel in answer["by_kernel"].values()) == 240
    again = cross_layer(run, tiles=4, faults=60, effects=6, seed=3)
    assert again.tiles == result.tiles
    assert cross_layer(run, tiles=4, faults=60, effects=6, seed=4).tiles != result.tiles


def tile(sdc, evaluated, critical, number=0, faults=100):
    return TileResult(tile=Tile(command=number, k=0, n=0, kernel="down", layer=0), faults=faults, sdc=sdc, evaluated=evaluated,
                      corruptions=evaluated, critical=critical, predictions=critical, bits=0.5, largest=1.0)


def test_rates_of_two_stages():
    """By hand: two tiles, p_SDC 0.4 and 0.2, of which 1/4 and 1/2 are critical."""
    result = CrossLayerResult(tiles=(tile(40, 8, 2), tile(20, 4, 2)), population=1000, rtl_seconds=1.0, model_seconds=2.0)
    sdc, given, critical = result.rates
    assert math.isclose(sdc, 0.3)
    assert math.isclose(critical, 0.1)
    assert math.isclose(given, 1 / 3)
    stages, between = result.variances()
    first, second = 0.3 * 0.7 / 200, (1 / 3) * (2 / 3) / 12
    assert math.isclose(stages, first / 9 + 0.09 * second + first * second)
    assert between == 0
    assert result.intervals()[1] == pytest.approx(wilson(0.1 * 0.1 * 0.9 / stages, 0.1 * 0.9 / stages))
    wide = CrossLayerResult(tiles=(tile(40, 8, 4), tile(40, 8, 0)), population=4, rtl_seconds=1.0, model_seconds=2.0)
    assert math.isclose(wide.variances()[1], np.var([0.2, 0.0], ddof=1) / 2 * 0.5)
    assert wide.intervals()[1].half_width > result.intervals()[1].half_width


def test_a_rate_of_nothing_has_an_interval():
    result = CrossLayerResult(tiles=(tile(0, 0, 0), tile(0, 0, 0)), population=1000, rtl_seconds=0.0, model_seconds=0.0)
    assert result.rates == (0.0, 0.0, 0.0)
    assert all(interval.low == 0.0 < interval.high < 1.0 for interval in result.intervals())
    assert result.to_json()["faults_per_second"] is None


@pytest.mark.parametrize(("options", "message"), [
    ({"tiles": 0}, r"^tiles must be at least 1, not 0$"), ({"faults": 0}, r"^faults must be at least 1, not 0$"),
    ({"effects": 0}, r"^effects must be at least 1, not 0$")])
def test_numbers_that_cannot_be(run, options, message):
    with pytest.raises(ValueError, match=message):
        cross_layer(run, **{"tiles": 1, "faults": 1} | options)


def test_sites_that_there_are_not(run):
    with pytest.raises(SiteError, match=r"^sites must match something: 'mesh\.row_9\.\*' matches none"):
        cross_layer(run, tiles=1, faults=1, glob="mesh.row_9.*")
    with pytest.raises(TargetError, match=r"^AcceleratorConfig\.dataflows must have 'ws' to inject into tiles, not \('os',\)$"):
        tiles_target(AcceleratorConfig(dataflows=("os",)), np.zeros((1, 1, 4), np.int64), np.zeros((1, 4, 4), np.int64))
    with pytest.raises(TargetError, match=r"^tiles must have at most 16384 rows of psums together, not 1000 tiles of 17$"):
        tiles_target(CONFIG, np.zeros((1000, 17, 4), np.int64), np.zeros((1000, 4, 4), np.int64))


def test_corruptions_belong_to_the_tile_whose_psums_they_are():
    """Tiles of 5 rows of 4 behind a copy of the last: what strikes the one before as it leaves counts for that one."""
    dtype = [("word", "<u4"), ("golden", "<u4"), ("got", "<u4")]
    copy, own = np.array([(4, 10, 12)], dtype), np.array([(23, 0, 0xFFFF_FFFF)], dtype)
    both = np.concatenate([copy, own])
    found = crosslayer._corruptions([{"results.rows": part} for part in (copy, both, own)] + [{}, {}, {}], 3, 5, 4)
    assert [len(part) for part in found] == [2, 0, 1]
    (last,) = found[2]
    assert (last.rows.tolist(), last.columns.tolist(), last.differences.tolist()) == ([1], [0], [2])
    for first in found[0]:
        assert (first.rows.tolist(), first.columns.tolist(), first.differences.tolist()) == ([0], [3], [-1])


def test_no_corruption_is_lost():
    """Exhaustive: upsets in one tile's slots corrupt as often as those that hit the tile between two like it in all cycles."""
    rng = np.random.default_rng(5)
    activations, weights = rng.integers(-128, 128, (1, STEPS, 4)), rng.integers(-128, 128, (1, 4, 4))
    engine = LanesEngine(tiles_target(CONFIG, np.repeat(activations, 3, 0), np.repeat(weights, 3, 0)))
    slots, bits = 4 + STEPS, [(site, bit) for site in engine.sites.select("mesh.*") for bit in range(engine.sites.bits[site])]
    faults = np.zeros(len(bits) * engine.golden_cycles, FAULT)
    faults["site"], faults["mask"] = np.tile([(site, 1 << bit) for site, bit in bits], (engine.golden_cycles, 1)).T
    faults["cycle"] = np.repeat(np.arange(engine.golden_cycles), len(bits))
    words = engine.corruptions(faults)
    middle = sum(any(4 * STEPS <= word < 8 * STEPS for word in wrong["results.rows"]["word"]) for wrong in words if wrong)
    inside = [wrong for wrong, cycle in zip(words, faults["cycle"], strict=True) if slots <= cycle < 2 * slots]
    (found,) = crosslayer._corruptions([{name: rows[rows["word"] < 8 * STEPS] for name, rows in wrong.items()
                                         if (rows["word"] < 8 * STEPS).any()} for wrong in inside], 1, STEPS, 4)
    assert len(found) == pytest.approx(middle, rel=0.01)
    assert len(found) > 1.2 * sum((wrong["results.rows"]["word"] // (4 * STEPS) == 1).any() for wrong in inside if wrong)
