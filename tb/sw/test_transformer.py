"""Decoder programs on the golden device against the float32 model: shapes, configs, chunks, tiles of keys."""

from dataclasses import replace

import numpy as np
import pytest

from hw.presets import PRESETS
from sw.generate import CompiledModel
from sw.golden.device import GoldenDevice
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.shape import ShapeError
from sw.kernels.transformer.weight_plan import LinearFormats, WeightPlan
from sw.models.llama_image import place_embeddings, place_model
from sw.models.llama_quantization import QuantizationPlan
from tb.sw.decoders import CONFIGS, MODEL, logits_of, random_weights, reference

BOUND = 0.998
"""Least correlation of logits with the float32 model's: int8 weights, activations, keys and values of two layers give 0.999 and
more; a model with one part changed, below, less than 0.99."""

CASES = {
    # config, tokens of the prompt, what differs from MODEL
    "grouped": ("16x16", 41, {}),
    "plain": ("16x16", 20, {"heads": 3, "kv_heads": 3, "head_dim": 64, "hidden": 120, "ffn": 84, "vocab": 259, "tied": True}),
    "one key head": ("8x8", 20, {"heads": 5, "kv_heads": 1, "head_dim": 16, "hidden": 96}),
    "narrow": ("8x8", 9, {"heads": 2, "kv_heads": 1, "head_dim": 32, "hidden": 40, "ffn": 12, "vocab": 5}),
    "small": ("4x4", 20, {"heads": 2, "kv_heads": 1, "head_dim": 16, "hidden": 36, "ffn": 20, "vocab": 33}),
    "small, wide heads": ("4x4", 12, {"heads": 3, "kv_heads": 1, "head_dim": 64, "hidden": 36, "ffn": 20, "vocab": 33}),
    "tiniest": ("16x16", 6, {"heads": 1, "kv_heads": 1, "head_dim": 2, "hidden": 8, "ffn": 4, "vocab": 16}),
}


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def tokens_of(model, count, seed=1):
    return np.random.default_rng(seed).integers(0, model.vocab, count).tolist()


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_and_tokens_after_it(name):
    config, count, changes = CASES[name]
    model = replace(MODEL, **changes)
    weights, tokens = random_weights(model), tokens_of(model, count + 2)
    compiled = CompiledModel(CONFIGS[config], model, weights)
    logits, generator = logits_of(compiled, [tokens[:count]])
    assert correlation(logits, reference(model, weights, tokens[:count])) > BOUND
    for end in range(count + 1, count + 3):
        (step,) = generator.feed(tokens[end - 1:end])
        assert step.program is compiled.decode
        assert correlation(step.logits, reference(model, weights, tokens[:end])) > BOUND


@pytest.mark.parametrize("part", ["positions", "attention", "norm", "gate"])
def test_the_bound_tells_a_wrong_model(part):
    """A float32 model with one part changed is further away than quantization takes us."""
    weights, tokens = random_weights(MODEL), tokens_of(MODEL, 12)
    logits, _ = logits_of(CompiledModel(CONFIGS["16x16"], MODEL, weights), [tokens])
    model, layer = MODEL, weights.layers[1]
    changed = {"positions": {}, "attention": {"k": np.zeros_like(layer.k)}, "norm": {"mlp_norm": np.ones_like(layer.mlp_norm)},
               "gate": {"gate": layer.up, "up": layer.gate}}[part]
    if part == "positions":
        model = replace(MODEL, rope_theta=100.0)
    other = replace(weights, layers=[weights.layers[0], replace(layer, **changed)])
    assert correlation(logits, reference(model, other, tokens)) < 0.99


def test_several_tiles_of_keys():
    """Where a tile is 64 keys, tokens at 130 and on see three of them."""
    model = replace(MODEL, heads=2, kv_heads=1, head_dim=64, hidden=36, ffn=20, vocab=33, layers=1)
    weights, tokens = random_weights(model), tokens_of(model, 131)
    compiled = CompiledModel(CONFIGS["4x4"], model, weights)
    assert compiled.memory.shape(compiled.config, compiled.chunk).key_tile <= 64
    assert compiled.memory.shape(compiled.config, 1).key_tile <= 64
    logits, generator = logits_of(compiled, [tokens[:130]])
    assert correlation(logits, reference(model, weights, tokens[:130])) > BOUND
    (step,) = generator.feed(tokens[130:])
    assert correlation(step.logits, reference(model, weights, tokens)) > BOUND


def test_chunks_change_nothing_but_rounding():
    """Each size of chunk, and one by one: the same probabilities but for the tiles that share a scale."""
    model = replace(MODEL, layers=1)
    weights, tokens = random_weights(model), tokens_of(model, 13)
    found = {chunk: logits_of(CompiledModel(CONFIGS["16x16"], model, weights, chunk=chunk), [tokens])[0]
             for chunk in (1, 4, 32)}
    for logits in found.values():
        assert correlation(logits, reference(model, weights, tokens)) > BOUND
        assert correlation(logits, found[32]) > 0.9999
        assert logits.argmax() == found[32].argmax()


def test_a_prompt_in_parts_is_the_prompt():
    """Chunks that end anywhere, tokens one by one in between, then chunks again where a chunk begins."""
    model = replace(MODEL, layers=1)
    weights, tokens = random_weights(model), tokens_of(model, 27)
    compiled = CompiledModel(CONFIGS["16x16"], model, weights, chunk=8)
    whole, _ = logits_of(compiled, [tokens])
    parts, generator = logits_of(compiled, [tokens[:5], tokens[5:16], tokens[16:]])
    assert generator.position == 27
    assert correlation(whole, parts) > 0.9999


def test_logits_of_all_tokens():
    """The program that makes them all agrees with the one that makes the last ones only."""
    config, weights = CONFIGS["8x8"], random_weights(MODEL)
    tokens = tokens_of(MODEL, 7)
    memory = decoder_memory(config, MODEL, tokens=8, logits_rows=8)
    compiled = CompiledModel(config, MODEL, weights, chunk=8)
    last, _ = logits_of(compiled, [tokens])
    program = decoder_program(config, memory, tokens=8, code_addr=memory.end + -memory.end % 4096, head="all")
    session = GoldenDevice(config).open(program.memory_bytes)
    place_model(config, memory, weights, session.memory)
    place_embeddings(memory, weights, tokens, session.memory)
    rows = session.run(program, {"position": 0, "count": 7}).outputs["logits"].view(np.float32).reshape(8, -1)[:, :MODEL.vocab]
    np.testing.assert_array_equal(rows[6], last)
    for count in range(1, 7):
        assert correlation(rows[count - 1], reference(MODEL, weights, tokens[:count])) > BOUND


@pytest.mark.parametrize(("change", "said"), [
    ({"vector": "requantize"}, "AcceleratorConfig.vector must be 'transformer' to run a transformer, not 'requantize'"),
    ({"weight_format": "int4"}, "AcceleratorConfig.weight_format must be int8 to run a transformer, not 'int4'"),
    ({"dataflows": ("os",)}, "AcceleratorConfig.dataflows must be one with 'ws' to run a transformer, not ('os',)"),
    ({"rows": 12}, "AcceleratorConfig.rows must be a power of two to run a transformer, not 12"),
    ({"columns": 24}, "AcceleratorConfig.columns must be a power of two to run a transformer, not 24"),
])
def test_a_config_that_runs_no_language_model(change, said):
    with pytest.raises(ShapeError) as error:
        CompiledModel(replace(PRESETS["systolic-16x16"], **change), MODEL, random_weights(MODEL))
    assert str(error.value) == said


def test_a_model_that_does_not_fit():
    small = replace(CONFIGS["4x4"], scratchpad_bytes=4096)
    with pytest.raises(AreaError, match=r" must fit into 4096 scratchpad bytes, not need \d+ \(kept by others"):
        CompiledModel(small, MODEL, random_weights(MODEL))
    with pytest.raises(AreaError, match=r"must need at most 16 row scalars, not \d+"):
        CompiledModel(replace(CONFIGS["16x16"], vector_rows=16), MODEL, random_weights(MODEL))
    with pytest.raises(AreaError, match=r"^a model must fit into 4294967296 bytes of memory, not need \d+ \(x .*, cache \d+, "):
        decoder_memory(CONFIGS["16x16"], replace(MODEL, context=1 << 30), tokens=8)
    wide = replace(MODEL, heads=16, kv_heads=1, head_dim=64)
    said = r"rows of attention must be at most 8 \(outputs of 64 columns in half the accumulator\), not 16"
    with pytest.raises(ShapeError, match=said):
        CompiledModel(CONFIGS["4x4"], wide, random_weights(wide))


@pytest.mark.parametrize(("tokens", "said"), [
    (3, "tokens must be a power of two, not 3"), (0, "tokens must be a power of two, not 0"),
    (2, "tokens must be 1 or at least 4, not 2"),
    (128, r"rows of attention must be at most 64 \(scores of 128 keys in half the accumulator\), not 128"),
])
def test_chunks_that_cannot_be(tokens, said):
    with pytest.raises(ShapeError, match=said):
        decoder_memory(CONFIGS["16x16"], MODEL, tokens=tokens)


def test_heads_of_logits_that_there_are_not():
    memory = decoder_memory(CONFIGS["16x16"], MODEL, tokens=8)
    with pytest.raises(ValueError, match="head must be one of none, last, all, not 'first'"):
        decoder_program(CONFIGS["16x16"], memory, tokens=8, code_addr=1 << 24, head="first")


def test_embeddings_that_there_are_not():
    memory, weights = decoder_memory(CONFIGS["16x16"], MODEL, tokens=8), random_weights(MODEL)
    dram = np.zeros(memory.end, np.uint8)
    with pytest.raises(ValueError, match="tokens must be between 0 and 100, not 3 to 101"):
        place_embeddings(memory, weights, [3, 101], dram)
    with pytest.raises(ValueError, match="a chunk must have at most 8 tokens, not 9"):
        place_embeddings(memory, weights, [0] * 9, dram)
    assert not dram.any()


def test_keys_and_values_of_four_bits():
    """Closer to the float32 model with its keys and values rounded alike than to the model itself. One code more or less, where
    two ways of rounding meet, is a fifteenth of a range: hence the wider bound."""
    weights, tokens = random_weights(MODEL), tokens_of(MODEL, 41)
    plan = QuantizationPlan.named(kv="int4-asym-g128")
    compiled = CompiledModel(CONFIGS["16x16"], MODEL, weights, kv="int4-asym")
    logits, generator = logits_of(compiled, [tokens[:40]])
    (step,) = generator.feed(tokens[40:])
    for end, found in ((40, logits), (41, step.logits)):
        rounded = reference(MODEL, weights, tokens[:end], plan.rounding())
        assert correlation(found, rounded) > 0.99
        assert correlation(found, rounded) > correlation(found, reference(MODEL, weights, tokens[:end]))


def test_formats_that_differ_from_layer_to_layer():
    """Three runs of layers: each linear is close to the float32 model's, and a plan of one format is what it was."""
    config = replace(CONFIGS["16x16"], engine="bitvert", dataflows=("ws",),
                     weight_formats=("int8", "bbs-average-g32", "bbs-average-g32-1of2"))
    model = replace(MODEL, layers=4)
    weights, tokens = random_weights(model), tokens_of(model, 9)
    same = LinearFormats("int8", "int8", "bbs-average-g32-1of2", "int8")
    plan = WeightPlan((same, same, same._replace(gate_up="int8"), same._replace(output="bbs-average-g32")), head="int8")
    compiled = CompiledModel(config, model, weights, plan=plan)
    assert [len(run.layers) for run in compiled.memory.runs] == [2, 1, 1]
    logits, generator = logits_of(compiled, [tokens[:8]])
    assert correlation(logits, reference(model, weights, tokens[:8])) > BOUND
    (step,) = generator.feed(tokens[8:])
    assert correlation(step.logits, reference(model, weights, tokens)) > BOUND
    with pytest.raises(ShapeError, match=r"^a plan of weights must have the model's 4 layers, not 3$"):
        decoder_memory(config, model, tokens=8, plan=WeightPlan.uniform(3))
