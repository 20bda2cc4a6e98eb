"""Mixture of experts: routing, the layer against float64, and that it does not matter who runs an expert."""

from fractions import Fraction

import numpy as np
import pytest

from hw.errors import ConfigError
from sw.golden.pim.moe import Expert, expert_output, moe_layer, route
from sw.pim.balance import ArrayEngine, PimEngine, split_experts

EXPERTS, D, FF, TOP = 8, 32, 48, 2


def halves(rng, *shape):
    return (rng.normal(size=shape) / 4).astype(np.float16).astype(np.float32)


def layer(seed):
    rng = np.random.default_rng(seed)
    experts = [Expert(halves(rng, FF, D), halves(rng, FF, D), halves(rng, D, FF)) for _ in range(EXPERTS)]
    return experts, halves(rng, EXPERTS, D), halves(rng, 40, D) * np.float32(4)


def silu(x):
    return x / (1 + np.exp(-x))


def test_routing_takes_the_best_and_the_lower_number_of_equals():
    routing = route(np.array([[1, 3, 3, 2], [0, 0, 0, 0], [5, -5, 7, 7]], np.float32), 2)
    np.testing.assert_array_equal(routing.experts, [[1, 2], [0, 1], [2, 3]])
    np.testing.assert_allclose(routing.weights, 0.5, atol=2.0**-23)
    assert routing.load(4) == [1, 2, 2, 1]


def test_weights_are_the_softmax_of_the_chosen():
    logits = np.random.default_rng(1).normal(size=(100, 16)).astype(np.float32) * 5
    routing = route(logits, 4)
    chosen = np.sort(logits.astype(np.float64), axis=1)[:, ::-1][:, :4]
    expected = np.exp(chosen - chosen[:, :1])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(routing.weights, expected, atol=2.0**-20)


@pytest.mark.parametrize("top", [0, 9])
def test_more_experts_than_there_are_are_refused(top):
    with pytest.raises(ConfigError, match=rf"^top must be between 1 and the 8 experts, not {top}$"):
        route(np.zeros((1, 8), np.float32), top)


def test_the_layer_is_near_to_float64():
    experts, router, x = layer(2)
    got, routing = moe_layer(experts, router, x, top=TOP, lanes=16, slots=4)
    expected = np.zeros_like(x, dtype=np.float64)
    for token in range(len(x)):
        for expert, weight in zip(routing.experts[token], routing.weights[token], strict=True):
            e, row = experts[expert], x[token].astype(np.float64)
            expected[token] += weight * (e.down @ (silu(e.gate @ row) * (e.up @ row)))
    # The hidden values are rounded to float16: relative 2^−11, in a sum of FF of them.
    hidden = max(np.abs(silu(x @ e.gate.T) * (x @ e.up.T)).max() for e in experts)
    assert np.abs(got - expected).max() <= 2.0**-11 * FF * hidden * max(np.abs(e.down).max() for e in experts)


def test_it_does_not_matter_which_engine_runs_an_expert():
    experts, router, x = layer(3)
    whole, routing = moe_layer(experts, router, x, top=TOP, lanes=16, slots=4)
    array = ArrayEngine(bandwidth=Fraction(3350), gops=Fraction(989_000))
    pim = PimEngine(bandwidth=Fraction(13_312), rows_x=8)
    split = split_experts(routing.load(EXPERTS), 3 * D * FF * 2, array, pim)
    assert split.array
    assert split.pim
    partial = {}
    for number in (*split.pim, *split.array):               # in the order in which they run
        token, place = np.nonzero(routing.experts == number)
        partial[number] = token, expert_output(experts[number], x[token], lanes=16, slots=4) * \
            routing.weights[token, place][:, None]
    result = np.zeros_like(x)
    for number in sorted(partial):
        token, part = partial[number]
        result[token] += part
    np.testing.assert_array_equal(result, whole)


def test_a_token_alone_is_as_in_a_crowd():
    experts, router, x = layer(4)
    whole, _ = moe_layer(experts, router, x, top=TOP, lanes=16, slots=4)
    alone, _ = moe_layer(experts, router, x[7:8], top=TOP, lanes=16, slots=4)
    np.testing.assert_array_equal(alone, whole[7:8])


@pytest.mark.parametrize(("changes", "message"), [
    ({"x": np.zeros(D, np.float32)}, r"x must be of shape \(tokens, d\), not \(32,\)"),
    ({"router": np.zeros((EXPERTS + 1, D), np.float32)}, r"router must be of shape \(8, 32\), not \(9, 32\)"),
    ({"up": np.zeros((FF + 1, D), np.float32)}, r"up of expert 3 must be of shape \(48, 32\), not \(49, 32\)"),
    ({"down": np.zeros((D - 1, FF), np.float32)}, r"down of expert 3 must be of shape \(32, 48\), not \(31, 48\)"),
    ({"router": np.full((EXPERTS, D), np.nan, np.float32)}, "logits must be numbers, not NaN as of token 0"),
])
def test_shapes_that_do_not_fit_are_refused(changes, message):
    experts, router, x = layer(5)
    experts[3] = Expert(experts[3].gate, changes.get("up", experts[3].up), changes.get("down", experts[3].down))
    with pytest.raises(ConfigError, match=f"^{message}$"):
        moe_layer(experts, changes.get("router", router), changes.get("x", x), top=TOP, lanes=16, slots=4)
