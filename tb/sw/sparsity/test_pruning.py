"""Models pruned in one pass: patterns hold, and what makes up for losses is the least-squares answer."""

import itertools

import numpy as np
import pytest

from hw.formats import format_named
from sw.golden.llama import KVCache, Rounding, forward
from sw.models.llama import LlamaModel
from sw.sparsity.patterns import check_pattern, pruned
from sw.sparsity.pruning import METHODS, compensated, gram, prune
from sw.sparsity.tasder import MATRICES
from tb.formats.structure import wide
from tb.sw.llamas import FIELDS, random_tensors, write_llama

PATTERNS = ["2:4", "1:4", "4:8", "hss-4:5-2:2", "hss-4:6-2:4"]
TOKENS = np.random.default_rng(0).integers(0, 256, (6, 12))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return LlamaModel(write_llama(tmp_path_factory.mktemp("m"))).checkpoint


def correlated(tokens, k, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((tokens, 3)) @ rng.standard_normal((3, k)) + 0.3 * rng.standard_normal((tokens, k))).astype(
        np.float32)


@pytest.mark.parametrize("name", PATTERNS)
def test_compensation_obeys_the_pattern_and_loses_less(name):
    fmt = format_named(name)
    matrix, inputs = wide(10, 50, seed=1), correlated(400, 50)
    thin = compensated(fmt, matrix, gram(inputs))
    assert (thin.dtype, thin.shape) == (np.float32, matrix.shape)
    check_pattern(fmt, thin)

    def lost(other):
        return np.square(inputs.astype(np.float64) @ (matrix.astype(np.float64) - other).T).sum()

    assert lost(thin) < 0.8 * lost(pruned(fmt, matrix))


def test_one_block_by_brute_force():
    """Of 1:4 in one row every choice is tried with the best change of what stays; the last block has nothing to its right."""
    inputs = correlated(200, 4, seed=2).astype(np.float64)
    row = wide(1, 4, seed=3)
    moments = gram(inputs)
    moments += 0.01 * np.trace(moments) / 4 * np.eye(4)         # as it is damped

    def lost(values):
        change = values - row[0]
        return change @ moments @ change

    thin = compensated(format_named("3:4"), row, gram(inputs))[0]
    best = {}
    for kept in itertools.combinations(range(4), 3):
        gone, = set(range(4)) - set(kept)
        later = [place for place in kept if place > gone]       # only values after what goes are changed
        values = np.where(np.isin(range(4), kept), row[0], 0).astype(np.float64)
        if later:
            values[later] = row[0][later] + np.linalg.solve(moments[np.ix_(later, later)], moments[later, gone] * row[0][gone])
        best[kept] = (lost(values), values)
    want = best[tuple(np.flatnonzero(thin))][1]
    np.testing.assert_allclose(thin, want, rtol=1e-5, atol=1e-6)


def test_without_correlation_nothing_is_changed():
    matrix = wide(5, 24, seed=4)
    thin = compensated(format_named("2:4"), matrix, np.diag(np.full(24, 7.0)))
    np.testing.assert_allclose(thin, pruned(format_named("2:4"), matrix), rtol=1e-6)
    assert not compensated(format_named("2:4"), np.zeros((2, 8), np.float32), np.zeros((8, 8))).any()


def test_gram_is_over_all_tokens():
    inputs = wide(6, 5, seed=5).reshape(2, 3, 5)
    np.testing.assert_allclose(gram(inputs), sum(np.outer(x, x) for x in inputs.reshape(6, 5).astype(np.float64)), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_matrix_of_a_model(checkpoint, method):
    fmt = format_named("2:4")
    found = prune(checkpoint, fmt, method, TOKENS)
    assert list(found) == [(layer, part) for layer in range(2) for part in MATRICES]
    for (layer, part), matrix in found.items():
        stored = getattr(checkpoint.layer(layer), part)
        assert matrix.shape == stored.shape
        check_pattern(fmt, matrix)
        if method == "magnitude":
            np.testing.assert_array_equal(matrix, pruned(fmt, stored))
        elif method == "activations":
            assert ((matrix == stored) | (matrix == 0)).all()


def test_inputs_are_those_behind_pruned_layers(checkpoint):
    """Activations decide by the norm of each input, recorded here from a forward pass of the model pruned so far."""
    fmt = format_named("2:4")
    found = prune(checkpoint, fmt, "activations", TOKENS)
    tensors = random_tensors(FIELDS)
    weights = checkpoint.weights(lambda part, values, layer: found[0, part] if layer == 0 else values)
    seen = []
    forward(checkpoint.config, weights, KVCache.empty(checkpoint.config, len(TOKENS)), TOKENS,
            Rounding(inputs=lambda x: seen.append(x) or x))
    for part, place in (("q", 4), ("o", 5), ("up", 6), ("down", 7)):        # four inputs a layer, the second layer's
        name = {"q": "self_attn.q_proj", "o": "self_attn.o_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}[part]
        stored = tensors[f"model.layers.1.{name}.weight"]
        norms = np.sqrt(np.square(seen[place].astype(np.float64)).sum(axis=(0, 1)))
        np.testing.assert_array_equal(found[1, part], pruned(fmt, stored, np.abs(stored) * norms))


@pytest.mark.parametrize(("method", "tokens", "text"), [
    ("luck", TOKENS, r"method must be one of magnitude, activations, compensated, not 'luck'"),
    ("compensated", None, r"the method 'compensated' must have text"),
])
def test_what_is_impossible(checkpoint, method, tokens, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        prune(checkpoint, format_named("2:4"), method, tokens)
