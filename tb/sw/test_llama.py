"""The golden Llama against a plain one in float64, in chunks as well as whole."""

import numpy as np
import pytest

from sw.golden.llama import EXACT, KVCache, LlamaConfig, Rounding, decoder_layer, embed, forward, logits, silu, softmax
from sw.models.llama import LlamaModel
from tb.sw.llamas import FIELDS, plain_logits, random_tensors, write_llama

TOKENS = np.array([[3, 250, 17, 17, 99, 0, 255, 42, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]])


@pytest.fixture
def model(tmp_path):
    return LlamaModel(write_llama(tmp_path / "model"))


@pytest.mark.parametrize("changes", [
    {}, {"tie_word_embeddings": True}, {"num_key_value_heads": 6}, {"num_key_value_heads": 1, "head_dim": 2},
    {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 14, "rope_theta": 1e6, "num_hidden_layers": 1},
])
def test_logits_are_those_of_the_plain_model(tmp_path, changes):
    fields = {**FIELDS, **changes}
    tensors = random_tensors(fields, seed=1)
    model = LlamaModel(write_llama(tmp_path / "model", tensors, **changes))
    found = forward(model.config, model.checkpoint.weights(), KVCache.empty(model.config, 2), TOKENS)
    assert found.dtype == np.float32
    for row, tokens in zip(found, TOKENS, strict=True):
        expected = np.array(plain_logits(fields, tensors, tokens))
        assert abs(expected).max() > 1
        np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.parametrize("chunks", [(9,), (1,) * 9, (4, 1, 3, 1)])
def test_chunks_continue_where_the_cache_ends(model, chunks):
    weights, whole = model.checkpoint.weights(), KVCache.empty(model.config, 2)
    expected = forward(model.config, weights, whole, TOKENS)
    cache, found, low = KVCache.empty(model.config, 2, capacity=9), [], 0
    for size in chunks:
        found.append(forward(model.config, weights, cache, TOKENS[:, low:low + size]))
        low += size
    assert cache.length == whole.length == 9
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-5)
    np.testing.assert_allclose(cache.keys, whole.keys[:, :, :, :9], atol=1e-5)
    np.testing.assert_allclose(cache.values, whole.values[:, :, :, :9], atol=1e-5)


def test_a_token_does_not_see_those_after_it(model):
    weights = model.checkpoint.weights()
    changed = TOKENS.copy()
    changed[:, 6:] = 77
    found, other = (forward(model.config, weights, KVCache.empty(model.config, 2), tokens) for tokens in (TOKENS, changed))
    np.testing.assert_allclose(found[:, :6], other[:, :6], atol=1e-5)
    assert abs(found[:, 6:] - other[:, 6:]).max() > 0.1


def test_rounding_is_at_each_place_with_its_shape(model):
    shapes = {}

    def at(place):
        def function(x):
            shapes.setdefault(place, []).append(x.shape)
            return x
        return function

    places = ("inputs", "queries", "keys", "values", "probabilities", "head")
    forward(model.config, model.checkpoint.weights(), KVCache.empty(model.config, 2), TOKENS,
            Rounding(**{place: at(place) for place in places}))
    assert shapes == {
        "inputs": [(2, 9, 20), (2, 9, 60), (2, 9, 20), (2, 9, 28)] * 2, "queries": [(2, 6, 9, 10)] * 2,
        "keys": [(2, 2, 9, 10)] * 2, "values": [(2, 2, 9, 10)] * 2, "probabilities": [(2, 6, 9, 9)] * 2, "head": [(2, 9, 20)]}


@pytest.mark.parametrize("place", ["inputs", "queries", "keys", "values", "probabilities", "head"])
def test_what_is_rounded_is_what_is_used(model, place):
    weights, exact = model.checkpoint.weights(), KVCache.empty(model.config, 2)
    expected = forward(model.config, weights, exact, TOKENS)
    found = forward(model.config, weights, KVCache.empty(model.config, 2), TOKENS, Rounding(**{place: lambda x: x * 0.5}))
    assert abs(found - expected).max() > 0.01


def test_what_is_cached_is_rounded(model):
    cache = KVCache.empty(model.config, 2)
    forward(model.config, model.checkpoint.weights(), cache, TOKENS,
            Rounding(keys=lambda x: np.full_like(x, 2), values=lambda x: np.full_like(x, 3)))
    assert set(np.unique(cache.keys[:, :, :, :9])) == {2}
    assert set(np.unique(cache.values[:, :, :, :9])) == {3}
    assert not cache.keys[:, :, :, 9:].any()


def test_a_layer_at_a_time_is_the_whole(model):
    weights, cache = model.checkpoint.weights(), KVCache.empty(model.config, 2)
    x = embed(model.config, weights, TOKENS)
    for i, layer in enumerate(weights.layers):
        x = decoder_layer(model.config, layer, x, cache.keys[i], cache.values[i], rounding=EXACT)
    np.testing.assert_array_equal(logits(model.config, weights, x),
                                  forward(model.config, weights, KVCache.empty(model.config, 2), TOKENS))


def test_large_values_stay_numbers():
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    np.testing.assert_allclose(silu(x), [0, 0, 0, 100, 1e4], atol=1e-3)
    np.testing.assert_allclose(softmax(x), [0, 0, 0, 0, 1], atol=1e-6)


def test_bad_tokens_and_a_full_cache_are_told(model):
    weights, cache = model.checkpoint.weights(), KVCache.empty(model.config, capacity=4)
    with pytest.raises(ValueError, match=r"^tokens must be between 0 and 255, not 3 to 256$"):
        forward(model.config, weights, cache, np.array([[3, 256]]))
    with pytest.raises(ValueError, match=r"^tokens must be between 0 and 255, not -1 to 3$"):
        forward(model.config, weights, cache, np.array([[3, -1]]))
    forward(model.config, weights, cache, np.array([[1, 2, 3]]))
    with pytest.raises(ValueError, match=r"^the chunk must end within the 4 tokens of the cache, not at 5$"):
        forward(model.config, weights, cache, np.array([[1, 2]]))
    assert cache.length == 3


def test_an_empty_cache_has_the_context_of_the_model():
    config = LlamaConfig(vocab=8, hidden=4, ffn=4, layers=3, heads=4, kv_heads=2, head_dim=6, context=32, rope_theta=1e4,
                         norm_eps=1e-5, tied=True)
    assert KVCache.empty(config, 5).keys.shape == (3, 5, 2, 32, 6)
