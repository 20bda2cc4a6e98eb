"""Encoder programs on the golden device against BERT in float64: shapes, configs, ragged lengths over several chunks."""

from dataclasses import replace

import numpy as np
import pytest

from hw.presets import PRESETS
from sw.embed import CompiledEncoder, Embedder
from sw.golden.device import GoldenDevice
from sw.hazards import find_hazards
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.encoder import encoder_memory, encoder_norms
from sw.kernels.transformer.shape import ShapeError
from sw.models.bert_smoothing import smoothing
from sw.models.minilm import MiniLM
from sw.models.sentence_model import SentenceModel
from tb.sw.berts import FIELDS, plain_embedding, random_tensors, write_bert

BOUND, ROUNDED = 0.02, 0.012
"""Of the distance between vectors of length one: two layers of int8 give up to 0.0104; of that, what an own rounding at the same
places does not give as well, because a code comes out one higher or lower here and there, up to 0.007."""

CONFIGS = {"4x4": replace(PRESETS["systolic-4x4"], vector="transformer", scratchpad_bytes=1 << 16),
           "8x8": PRESETS["systolic-8x8"], "16x16": PRESETS["systolic-16x16"],
           "banks": replace(PRESETS["systolic-8x8"], scratchpad_banks=64),
           "bus64": replace(PRESETS["systolic-8x8"], bus_width=64, vector_lanes=8)}


@pytest.fixture
def compile_encoder(tmp_path):
    """Return what writes a model with changes, and compiles it for a config."""
    def compile_it(config, chunk=8, seed=0, **changes):
        fields = {**FIELDS, **changes}
        tensors = random_tensors(fields, seed)
        model = SentenceModel(write_bert(tmp_path / "model", tensors, **changes))
        return fields, tensors, CompiledEncoder(CONFIGS[config], model.config, model.weights, chunk=chunk)
    return compile_it


def embed(compiled, *sentences):
    embedder = Embedder(GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    return [embedder.embed(tokens).vector.astype(np.float64) for tokens in sentences]


def tokens_of(count, seed=1):
    return np.random.default_rng(seed).integers(0, FIELDS["vocab_size"], count).tolist()


def differences(fields, tensors, compiled, tokens, vector):
    """Return how far a vector of length one is from the model's, and from that of the model rounded as the accelerator rounds."""
    factors = smoothing(compiled.model, compiled.weights)
    return [np.linalg.norm(vector - plain_embedding(fields, tensors, tokens, given)) for given in (None, factors)]


def check(fields, tensors, compiled, tokens, vector):
    assert abs(np.linalg.norm(vector) - 1) < 1e-6
    exact, rounded = differences(fields, tensors, compiled, tokens, vector)
    assert exact < BOUND
    assert rounded < ROUNDED


def test_lengths(compile_encoder):
    """A token alone, part of a chunk, whole chunks, one more, several and a part, as many as there are positions."""
    check_lengths(*compile_encoder("16x16"))


def test_chunks_of_several_blocks(compile_encoder):
    """Norms and pooling take the rows of a chunk in blocks: here four."""
    fields, tensors, compiled = compile_encoder("banks", 16)
    assert encoder_norms(compiled.config, compiled.memory.shape)["attention"].block == 4
    check_lengths(fields, tensors, compiled)


def check_lengths(fields, tensors, compiled):
    sentences = [tokens_of(count) for count in (1, 5, 8, 9, 19, 70, 2)]
    for tokens, vector in zip(sentences, embed(compiled, *sentences), strict=True):
        check(fields, tensors, compiled, tokens, vector)


def test_rows_that_are_not_there_cost_nothing(compile_encoder):
    """Multiply-accumulates of a sentence: those of its tokens, in heads of 12 columns padded to 16."""
    _, _, compiled = compile_encoder("16x16")
    embedder = Embedder(GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    for count in (1, 9):
        linears = 36 * 3 * 48 + 48 * 36 + 2 * 36 * 52
        found = embedder.embed(tokens_of(count)).result.counters["macs"]
        assert found == 2 * (count * linears + 3 * 2 * count**2 * 16)


@pytest.mark.parametrize(("config", "chunk", "changes"), [
    ("4x4", 4, {}), ("8x8", 16, {}), ("bus64", 2, {}),
    ("16x16", 8, {"num_hidden_layers": 1}), ("16x16", None, {"num_hidden_layers": 3, "num_attention_heads": 1}),
    ("8x8", 8, {"hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 3}),
    ("16x16", 16, {"hidden_size": 8, "num_attention_heads": 8, "intermediate_size": 260, "max_position_embeddings": 21}),
])
def test_shapes(compile_encoder, config, chunk, changes):
    fields, tensors, compiled = compile_encoder(config, chunk, **changes)
    tokens = tokens_of(21)
    check(fields, tensors, compiled, tokens, *embed(compiled, tokens))


def test_several_tiles_of_keys(compile_encoder):
    fields, tensors, compiled = compile_encoder("4x4", 16)
    assert compiled.memory.shape.key_tile == 32
    sentences = [tokens_of(count) for count in (70, 65, 64, 33)]
    for tokens, vector in zip(sentences, embed(compiled, *sentences), strict=True):
        check(fields, tensors, compiled, tokens, vector)


def test_chunks_change_nothing_but_rounding(compile_encoder):
    """Where all keys are of one tile, each token's numbers do not depend on its chunk: no bit may differ before the mean."""
    tokens, found = tokens_of(23), []
    for chunk in (4, 32):
        fields, tensors, compiled = compile_encoder("16x16", chunk)
        found += embed(compiled, tokens)
    check(fields, tensors, compiled, tokens, found[0])
    np.testing.assert_allclose(*found, atol=1e-6)


def test_sentences_do_not_see_each_other(compile_encoder):
    """A short sentence after a long one: what that left in cache and memory is not read."""
    _, _, compiled = compile_encoder("16x16")
    short, long = tokens_of(5), tokens_of(70, seed=2)
    alone, = embed(compiled, short)
    _, after, again = embed(compiled, long, short, short)
    np.testing.assert_array_equal(after, alone)
    np.testing.assert_array_equal(again, alone)


def test_the_constant_of_layer_norms(compile_encoder):
    """A large one, and none that the other would pass for."""
    tokens = tokens_of(9)
    fields, tensors, compiled = compile_encoder("16x16", layer_norm_eps=0.5)
    vector, = embed(compiled, tokens)
    check(fields, tensors, compiled, tokens, vector)
    assert min(differences({**fields, "layer_norm_eps": 0.4}, tensors, compiled, tokens, vector)) > ROUNDED


def test_the_bound_tells_a_wrong_model(compile_encoder):
    """Without any one bias of the second layer, without types, or with positions moved by one, the model is further away."""
    tokens = tokens_of(9)
    fields, tensors, compiled = compile_encoder("16x16")
    vector, = embed(compiled, tokens)
    names = [name for name in tensors if name.startswith("encoder.layer.1.") and name.endswith(".bias")]
    assert len(names) == 8
    names.remove("encoder.layer.1.attention.self.key.bias")     # the same for all keys, which the softmax does not see
    for name in [*names, "embeddings.token_type_embeddings.weight"]:
        other = {**tensors, name: np.zeros_like(tensors[name])}
        assert min(differences(fields, other, compiled, tokens, vector)) > ROUNDED, name
    name = "embeddings.position_embeddings.weight"
    assert min(differences(fields, {**tensors, name: np.roll(tensors[name], 1, axis=0)}, compiled, tokens, vector)) > BOUND


@pytest.mark.parametrize(("config", "chunk"), [("16x16", 8), ("4x4", 16)])
def test_semaphores_order_all_that_units_share(compile_encoder, config, chunk):
    """What timing would have to be lucky for on the RTL, and the golden device cannot see."""
    _, _, compiled = compile_encoder(config, chunk)
    for count in (1, 9, 70):
        assert list(find_hazards(compiled.config, compiled.program, {"count": count})) == []


def test_the_real_model():
    """All of all-MiniLM-L6-v2, on a text that is far from exact unless outliers are smoothed: 0.980."""
    model = MiniLM()
    compiled = CompiledEncoder(PRESETS["systolic-16x16"], model.config, model.weights)
    tokens = model.sentence("Ok.")
    vector, = embed(compiled, tokens)
    assert vector @ model.encode_tokens(tokens) > 0.99
    assert compiled.chunk == 32
    assert compiled.macs(1) == 6 * (4 * 384**2 + 2 * 384 * 1536 + 2 * 384)


# Errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "said"), [
    ({"vector": "requantize"}, "AcceleratorConfig.vector must be 'transformer' to run a transformer, not 'requantize'"),
    ({"weight_format": "int4"}, "AcceleratorConfig.weight_format must be int8 to run a transformer, not 'int4'"),
    ({"columns": 24}, "AcceleratorConfig.columns must be a power of two to run a transformer, not 24"),
])
def test_a_config_that_runs_no_encoder(compile_encoder, change, said):
    _, _, compiled = compile_encoder("16x16")
    with pytest.raises(ShapeError) as error:
        CompiledEncoder(replace(compiled.config, **change), compiled.model, compiled.weights)
    assert str(error.value) == said


@pytest.mark.parametrize(("chunk", "said"), [
    (3, "tokens must be a power of two, not 3"), (0, "tokens of an encoder's chunk must be at least 2, not 0"),
    (1, "tokens of an encoder's chunk must be at least 2, not 1"), (2, "tokens must be 1 or at least 4, not 2"),
])
def test_chunks_that_cannot_be(compile_encoder, chunk, said):
    _, _, compiled = compile_encoder("16x16")
    with pytest.raises(ShapeError) as error:
        encoder_memory(compiled.config, compiled.model, tokens=chunk)
    assert str(error.value) == said


def test_a_model_that_does_not_fit(compile_encoder):
    _, _, compiled = compile_encoder("16x16")
    small = replace(compiled.config, scratchpad_bytes=4096)
    with pytest.raises(AreaError, match=r" must fit into 4096 scratchpad bytes, not need \d+ \(kept by others"):
        CompiledEncoder(small, compiled.model, compiled.weights)
    with pytest.raises(AreaError, match=r"must need at most 16 row scalars, not \d+"):
        CompiledEncoder(replace(compiled.config, vector_rows=16), compiled.model, compiled.weights)


@pytest.mark.parametrize(("part", "said"), [
    ("q", "q of layer 1"), ("norm2 bias", "norm2 of layer 1"), ("words", "word embeddings"), ("positions", "position embeddings"),
    ("types", "type embeddings"), ("norm bias", "norm of the embeddings"),
])
def test_weights_that_are_no_numbers(compile_encoder, part, said):
    _, _, compiled = compile_encoder("16x16")
    name, _, which = part.partition(" ")
    weights, layers = compiled.weights, list(compiled.weights.layers)
    owner = layers[1] if hasattr(layers[1], name) else weights
    found = getattr(owner, name)
    changed = [values.copy() for values in (found if isinstance(found, tuple) else [found])]
    changed[which == "bias"].flat[3] = np.nan
    other = replace(owner, **{name: tuple(changed) if isinstance(found, tuple) else changed[0]})
    layers[1] = layers[1] if owner is weights else other
    with pytest.raises(ValueError) as error:    # noqa: PT011
        CompiledEncoder(compiled.config, compiled.model, other if owner is weights else replace(weights, layers=layers))
    assert str(error.value) == f"weights must be finite, but {said} holds NaN or infinity"


@pytest.mark.parametrize(("tokens", "said"), [
    ([], "a sentence must have 1 to 70 tokens, not 0"), ([0] * 71, "a sentence must have 1 to 70 tokens, not 71"),
    ([3, 41], "tokens must be between 0 and 40, not 3 to 41"), ([-1, 4], "tokens must be between 0 and 40, not -1 to 4"),
])
def test_sentences_that_cannot_be(compile_encoder, tokens, said):
    _, _, compiled = compile_encoder("16x16")
    embedder = Embedder(GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    before = embedder.session.memory.copy()
    with pytest.raises(ValueError) as error:    # noqa: PT011
        embedder.embed(tokens)
    assert str(error.value) == said
    np.testing.assert_array_equal(embedder.session.memory, before)
