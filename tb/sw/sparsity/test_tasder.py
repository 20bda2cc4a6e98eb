"""The choice of a series for each matrix: against every choice that there is, where those are few."""

import dataclasses
import itertools

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.formats import format_named
from hw.presets import preset_named
from sw.formats import dequantize, quantize
from sw.kernels.transformer.weight_plan import LINEAR_PARTS
from sw.models.llama import LlamaModel
from sw.sparsity.patterns import density
from sw.sparsity.tasder import (
    MATRICES,
    SERIES,
    Scored,
    choose,
    cost_of,
    engine_series,
    linear_scores,
    scores_of,
)
from tb.sw.llamas import FIELDS, random_tensors, write_llama

FEW = tuple(format_named(name) for name in ("tasd-2:8", "tasd-4:8", "int8"))


def scored(seed, count=5):
    """Return matrices whose errors grow as they get cheaper."""
    rng = np.random.default_rng(seed)
    return {(layer, "q"): Scored(weights=int(rng.integers(1, 9)), errors=tuple(sorted(rng.random(3), reverse=True)))
            for layer in range(count)}


def additive(scores, series=FEW):
    """Return a quality from which each matrix takes its own error, weighed by where it is: one that is known in full."""
    def quality(choice):
        return 1 - sum((1 + layer) * scores[layer, part].errors[series.index(fmt)] for (layer, part), fmt in choice.items()) / 30

    return quality


def test_series_go_from_cheap_to_dear_and_have_two_terms_at_most():
    costs = [density(fmt) for fmt in SERIES]
    assert costs == [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 1]
    assert all(len(getattr(fmt, "terms", ())) <= 2 for fmt in SERIES)


def test_scores_are_relative_errors(tmp_path):
    tensors = random_tensors(FIELDS)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 0
    scores = scores_of(LlamaModel(write_llama(tmp_path / "m", tensors)).checkpoint, FEW)
    assert list(scores) == [(layer, part) for layer in range(2) for part in MATRICES]
    matrix = tensors["model.layers.1.self_attn.o_proj.weight"].astype(np.float64)
    for fmt, error in zip(FEW, scores[1, "o"].errors, strict=True):
        assert error == pytest.approx(np.sqrt(((dequantize(quantize(matrix, fmt)) - matrix)**2).sum() / (matrix**2).sum()))
    assert scores[1, "o"].weights == matrix.size
    assert scores[0, "up"].errors == (0, 0, 0)


@pytest.mark.parametrize("seed", range(12))
def test_no_matrix_alone_could_be_cheaper_and_few_choices_are(seed):
    scores = scored(seed)
    quality = additive(scores)
    dense = quality(dict.fromkeys(scores, FEW[-1]))
    bar = dense - 0.1 - 0.02 * seed
    found = choose(scores, quality, bar, FEW)
    assert found.quality == quality(found.series) >= bar
    assert found.cost == pytest.approx(sum(density(found.series[name]) * one.weights for name, one in scores.items())
                                       / sum(one.weights for one in scores.values()))
    for name, fmt in found.series.items():                  # a local optimum
        if fmt is not FEW[0]:
            assert quality({**found.series, name: FEW[FEW.index(fmt) - 1]}) < bar
    costs = []
    for chosen in itertools.product(FEW, repeat=len(scores)):
        choice = dict(zip(scores, chosen, strict=True))
        if quality(choice) >= bar:
            costs.append(cost_of(choice, scores))
    assert min(costs) <= found.cost <= 1
    assert sum(cost < found.cost - 1e-9 for cost in costs) <= 0.3 * len(costs)


def test_everything_and_nothing():
    scores = scored(1)
    found = choose(scores, lambda choice: 1.0, 0.5, FEW)
    assert set(found.series.values()) == {FEW[0]}
    assert found.cost == 0.25
    tight = choose(scores, lambda choice: 1.0 if set(choice.values()) == {FEW[-1]} else 0.4, 0.5, FEW)
    assert set(tight.series.values()) == {FEW[-1]}
    assert (tight.cost, tight.quality) == (1, 1.0)
    assert tight.evaluations <= 1 + 5 + len(scores)


def test_one_threshold_is_found_by_bisection():
    """A quality that only asks for the largest error: then the first stage is the answer, and the walk ends at once."""
    scores = scored(3)
    asked = []

    def quality(choice):
        asked.append(choice)
        return 1 - max(scores[name].errors[FEW.index(fmt)] for name, fmt in choice.items())

    found = choose(scores, quality, 0.4, FEW)
    for name, fmt in found.series.items():
        assert scores[name].errors[FEW.index(fmt)] <= 0.6
        cheaper = scores[name].errors[:FEW.index(fmt)]
        assert all(error > 0.6 for error in cheaper)
    assert found.evaluations == len(asked)


@pytest.mark.parametrize(("series", "text"), [
    (FEW[::-1], r"series must go from cheap to dear, each once, not at 1, 0\.5, 0\.25"),
    ((FEW[0], FEW[0]), r"series must go from cheap to dear, each once, not at 0\.25, 0\.25"),
    ((), r"series must go from cheap to dear, each once, not at "),
    (FEW, r"the quality must be at least 0\.9 with int8 everywhere, not 0\.8"),
])
def test_what_is_impossible(series, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        choose(scored(0), lambda choice: 0.8, 0.9, series)


def test_series_of_an_engine_are_the_densest_of_each_time():
    """Of formats that take the same time the densest; SDQ is no series."""
    found = {fmt.name: cost for fmt, cost in engine_series(preset_named("hss-8x8")).items()}
    assert next(iter(found.items())) == ("hss-4:8-2:4", 0.25)
    assert list(found.items())[-1] == ("int8", 1.0)
    assert {name: cost for name, cost in found.items() if name.startswith("tasd") or name == "2:4"} == {
        "tasd-2:4+1:8": 0.75, "2:4": 0.5}
    assert {fmt.name: cost for fmt, cost in engine_series(preset_named("stc-16x16")).items()} == {"2:4": 0.5, "int8": 1.0}


@pytest.mark.parametrize(("preset", "fields", "text"), [
    ("systolic-4x4", {}, r"AcceleratorConfig\.engine must be 'hss' or 'stc' for a choice of series, not 'systolic'"),
    ("hss-8x8", {"weight_formats": ("hss-4:4-2:2",)},
     r"AcceleratorConfig\.weight_formats must have patterns or series for a choice of series, not \('hss-4:4-2:2',\)")])
def test_engines_without_series(preset, fields, text):
    with pytest.raises(ConfigError, match=f"^{text}$"):
        engine_series(dataclasses.replace(preset_named(preset), **fields))


def test_scores_of_linears_join_their_matrices(tmp_path):
    checkpoint = LlamaModel(write_llama(tmp_path / "model")).checkpoint
    series = [format_named("2:4"), format_named("int8")]
    linears, matrices = linear_scores(checkpoint, series), scores_of(checkpoint, series)
    for (layer, linear), found in linears.items():
        parts = [(getattr(checkpoint.layer(layer), part), matrices[layer, part]) for part in LINEAR_PARTS[linear]]
        assert found.weights == sum(scored.weights for _, scored in parts)
        for number in range(2):
            lost = sum((scored.errors[number] * np.linalg.norm(matrix)) ** 2 for matrix, scored in parts)
            whole = sum(np.linalg.norm(matrix) ** 2 for matrix, _ in parts)
            assert found.errors[number] == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
