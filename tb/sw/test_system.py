"""A model on an array and a PIM: near float32, the same on any number of channels, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from hw.system import SYSTEM_PRESETS, SystemConfig, system_named
from sw.generate import CompiledModel, ContextError, Generator
from sw.golden.device import GoldenDevice
from sw.golden.llama import KVCache, forward
from sw.golden.pim.device import GoldenPimDevice
from sw.kernels.transformer.offload import offload_programs
from sw.models.llama import LlamaModel
from sw.system import CompiledSystem, SystemGenerator
from tb.sw.llamas import write_llama

TINY = SYSTEM_PRESETS["duplex-tiny"]
MODEL = {"hidden_size": 40, "intermediate_size": 72, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 30,
         "num_hidden_layers": 2, "max_position_embeddings": 40}
PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32]
MORE = [38, 46, 26]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LlamaModel(write_llama(tmp_path_factory.mktemp("llama") / "model", **MODEL))


def logits_of(config, model, tokens=MORE):
    """Return the logits behind the prompt and each of the tokens, and the steps."""
    compiled = CompiledSystem(config, model.config, model.checkpoint.weights(), chunk=8)
    generator = SystemGenerator(GoldenDevice(config.array).open(len(compiled.dram)),
                                GoldenPimDevice(config.pim, config.channels).open(), compiled)
    steps = [*generator.feed(PROMPT), *generator.feed(tokens)]
    return [step.logits for step in steps if step.logits is not None], steps


@pytest.fixture(scope="module")
def duplex(model):
    return logits_of(TINY, model)


def test_logits_are_near_float32(model, duplex):
    weights, cache = model.checkpoint.weights(), KVCache.empty(model.config)
    chunks = [np.array([PROMPT]), *(np.array([[token]]) for token in MORE)]
    for tokens, found in zip(chunks, duplex[0], strict=True):
        expected = forward(model.config, weights, cache, tokens)[0, -1]
        assert np.corrcoef(found, expected)[0, 1] > 0.999


@pytest.mark.parametrize("changes", [{"channels": 1}, {"link_bytes": 1}])
def test_logits_do_not_depend_on_channels_nor_links(model, duplex, changes):
    found, _ = logits_of(dataclasses.replace(TINY, **changes), model, MORE[:2])
    for ours, theirs in zip(found, duplex[0], strict=False):
        np.testing.assert_array_equal(ours, theirs)


def test_the_mlp_can_stay_on_the_array(model, duplex):
    found, steps = logits_of(SYSTEM_PRESETS["duplex-tiny-attention"], model)
    for ours, theirs in zip(found, duplex[0], strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    np.testing.assert_array_equal(found[0], duplex[0][0])       # the prompt is the array's in both
    names = [run.name for run in steps[-1].runs if run.device != "transfer"]
    assert names == [*["one token, before attention", "attention of layer 0", "one token, after attention"],
                     *["one token, before attention", "attention of layer 1", "one token, after attention"], "one token, head"]


def test_attention_can_stay_on_the_array(model, duplex):
    found, steps = logits_of(SYSTEM_PRESETS["duplex-tiny-ffn"], model)
    for ours, theirs in zip(found, duplex[0], strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    names = [run.name for run in steps[-1].runs if run.device != "transfer"]
    assert names == [*["one token, before the MLP", "gate and up of layer 0", "one token, gate", "down of layer 0"],
                     *["one token, before the MLP", "gate and up of layer 1", "one token, gate", "down of layer 1"],
                     "one token, head"]
    assert not any(run.device == "transfer" for step in steps[:2] for run in step.runs)         # the cache stays


def test_attention_that_stays_is_that_of_the_array_alone(model):
    """With both kernels' products exact, tokens of the system and of the array alone see the same keys and values."""
    config = SYSTEM_PRESETS["duplex-tiny-ffn"]
    compiled = CompiledSystem(config, model.config, model.checkpoint.weights(), chunk=8)
    alone = CompiledModel(config.array, model.config, model.checkpoint.weights(), chunk=8)
    sessions = [GoldenDevice(config.array).open(len(of.dram)) for of in (compiled, alone)]
    system = SystemGenerator(sessions[0], GoldenPimDevice(config.pim, config.channels).open(), compiled)
    generators, caches = (system, Generator(sessions[1], alone)), []
    for generator, session, memory in zip(generators, sessions, (compiled.base.memory, alone.memory), strict=True):
        for tokens in (PROMPT, MORE):
            list(generator.feed(tokens))
        addr, size = memory.regions["cache"]
        caches.append(session.memory[addr:addr + size].copy())
    first = caches[0][:compiled.base.memory.cache_bytes], caches[1][:alone.memory.cache_bytes]
    assert first[0].any()
    np.testing.assert_array_equal(*first)               # layer 0 has seen no MLP yet


def test_one_kernel_at_least_runs_elsewhere(model):
    compiled = CompiledModel(TINY.array, model.config, model.checkpoint.weights(), chunk=8)
    with pytest.raises(ValueError, match=r"^attention or mlp must be true: one of them runs elsewhere$"):
        offload_programs(TINY.array, compiled.memory, len(compiled.dram), attention=False, mlp=False)


def test_channels_can_share_tokens(model, duplex):
    found, steps = logits_of(dataclasses.replace(TINY, split="tokens"), model)
    for ours, theirs in zip(found, duplex[0], strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9999
    assert "merging of parts" in [run.name for run in steps[-1].runs]
    one, _ = logits_of(dataclasses.replace(TINY, split="tokens", channels=1), model, MORE[:1])
    np.testing.assert_array_equal(one[1], duplex[0][1])         # a part is the whole


def test_channels_can_share_the_elements_of_heads(model, duplex):
    found, steps = logits_of(dataclasses.replace(TINY, split="head-dim"), model)
    for ours, theirs in zip(found, duplex[0], strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9999
    assert "context of layer 1" in [run.name for run in steps[-1].runs]
    assert "scores" in [run.name for run in steps[-1].runs if run.device == "transfer"]
    one, _ = logits_of(dataclasses.replace(TINY, split="head-dim", channels=1), model, MORE[:1])
    np.testing.assert_array_equal(one[1], duplex[0][1])         # all elements are a part


def test_what_moves_between_the_devices(duplex):
    _, steps = duplex
    prompt = [run for step in steps[:2] for run in step.runs if run.device == "transfer"]
    # Codes and scales of K and V, two layers of two heads of 32 elements with their padding, nine tokens.
    assert [(run.name, run.nbytes) for run in prompt] == [("keys and values", 2 * 2 * 2 * 9 * 36)]
    token = {(run.name, run.nbytes) for run in steps[-1].runs if run.device == "transfer"}
    assert token == {("turned", 4 * 6 * 32), ("qkv", 4 * 2 * 32), ("context", 4 * 4 * 32), ("normed", 4 * 40),
                     ("gated", 4 * 2 * 72), ("hidden", 4 * 72), ("delta", 4 * 40)}
    assert steps[-1].cycles()["transfer"] == sum(-(-nbytes // 16) for _, nbytes in token) * 2


def test_a_sequence_that_the_context_does_not_hold(model):
    compiled = CompiledSystem(TINY, model.config, model.checkpoint.weights(), context=10, chunk=8)
    generator = SystemGenerator(GoldenDevice(TINY.array).open(len(compiled.dram)), GoldenPimDevice(TINY.pim).open(), compiled)
    with pytest.raises(ContextError, match=r"^the sequence must have at most 10 tokens, the context, not 11$"):
        list(generator.feed([1] * 11))
    list(generator.feed(PROMPT))
    with pytest.raises(ContextError, match=r"^the sequence must have at most 10 tokens, the context, not 12$"):
        list(generator.feed(MORE))
    assert generator.position == 9


@pytest.mark.parametrize(("pim", "message"), [
    ({"dram_rows": 1}, r"a context of 40 tokens must end within 32768 bytes, a channel's, not at 131072"),
    ({"dram_rows": 4}, r"a linear of 144 outputs and 40 inputs must end within 131072 bytes, a channel's, not at \d+"),
    ({"rows_x": 1}, r"HeadPlan.group must be between 1 and 1, not 2"),
    ({"streams": 4, "bundles": 1, "lanes": 64}, r"HeadPlan.head_dim must be the 64 elements of a slice times .*, not 32"),
])
def test_models_that_do_not_fit_the_pim(model, pim, message):
    config = dataclasses.replace(TINY, pim=dataclasses.replace(TINY.pim, **pim))
    with pytest.raises(ConfigError, match=f"^{message}$"):
        CompiledSystem(config, model.config, model.checkpoint.weights(), chunk=8)


def test_heads_that_the_channels_do_not_divide(model):
    config = dataclasses.replace(TINY, pim=dataclasses.replace(TINY.pim, n_pch=4), channels=3)
    with pytest.raises(ConfigError, match=r"^CachePlan.kv_heads must be a multiple of the 3 channels, not 2$"):
        CompiledSystem(config, model.config, model.checkpoint.weights(), chunk=8)
    odd = dataclasses.replace(model.config, heads=3)
    with pytest.raises(ConfigError, match=r"^the model's heads must be a multiple of its 2 KV heads, not 3$"):
        CompiledSystem(TINY, odd, model.checkpoint.weights())


# Configs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEM_PRESETS)
def test_a_system_is_what_its_json_says(name):
    config = system_named(name)
    again = SystemConfig.from_json(config.to_json())
    assert again == config
    assert again.digest() == config.digest()
    assert dataclasses.replace(config, channels=1).digest() != config.digest()


def test_devices_may_be_named():
    text = json.dumps({"array": "systolic-8x8", "pim": "pim-duplex-tiny", "placement": [["attention", "pim"], ["ffn", "pim"]]})
    assert SystemConfig.from_json(text) == TINY
    assert TINY.device_of("ffn") == "pim"
    assert SYSTEM_PRESETS["duplex-tiny-attention"].device_of("ffn") == "array"


@pytest.mark.parametrize(("changes", "message"), [
    ({"channels": 3}, "SystemConfig.channels must be between 1 and 2, the PIM's pseudo-channels, not 3"),
    ({"split": "layers"}, "SystemConfig.split must be one of heads, tokens, head-dim, not 'layers'"),
    ({"link_bytes": 0}, "SystemConfig.link_bytes must be between 1 and 4096, not 0"),
    ({"placement": (("head", "pim"),)}, (r"SystemConfig.placement must be of attention, ffn, each on array or pim, "
                                        r"not \('head', 'pim'\)")),
    ({"placement": (("ffn", "gpu"),)}, r"SystemConfig.placement must be of attention, ffn, .*, not \('ffn', 'gpu'\)"),
    ({"placement": (("ffn", "array"),)}, (r"SystemConfig.placement must be with attention or ffn on the PIM, "
                                          r"not \(\('ffn', 'array'\),\)")),
    ({"placement": (("attention", "pim"), ("attention", "pim"))}, "SystemConfig.placement must be a device for each kernel, .*"),
    ({"pim": PIM_PRESETS["pim-p3"]}, "SystemConfig.pim must have wtype, .* of float16, .*, not bitmod4, p3-kv, float8_e4m3fn"),
    ({"pim": dataclasses.replace(TINY.pim, ptype="bfloat16")}, (
        "SystemConfig.pim must have ptype as xtype, and xtype as wide as wtype, to attend and to append, "
        "not bfloat16, float16, float16")),
    ({"pim": dataclasses.replace(TINY.pim, wtype="float8_e4m3fn", kvtype="float8_e4m3fn", lanes=32)},
     "SystemConfig.pim must have .*, not float16, float16, float8_e4m3fn"),
    ({"array": AcceleratorConfig()}, "SystemConfig.array must have the vector unit for transformers, not 'requantize'"),
])
def test_systems_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(("fields", "message"), [
    ({"array": "systolic-8x8"}, "SystemConfig.pim must be given"),
    ({"array": "systolic-8x8", "pim": "pim-tiny", "clock": 1},
     r"SystemConfig has no field 'clock' \(it has array, channels, link_bytes, pim, placement, split\)"),
    ({"array": 5, "pim": "pim-tiny"}, "SystemConfig.array must be a preset's name or fields of its config, not 5"),
    ({"array": "systolic-8x8", "pim": []}, r"SystemConfig.pim must be a preset's name or fields of its config, not \[\]"),
    ({"array": "systolic-8x8", "pim": "pim-duplex-tiny", "placement": [5]}, r"SystemConfig.placement must be of .*, not 5"),
    ({"array": "systolic-8x8", "pim": "pim-huge"}, "preset must be one of pim-tiny, .*, not 'pim-huge'"),
    ({"array": "systolic-9x9", "pim": "pim-tiny"}, "preset must be one of systolic-4x4, .*, not 'systolic-9x9'"),
])
def test_json_that_says_no_system(fields, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        SystemConfig.from_dict(fields)


def test_fields_have_their_types():
    with pytest.raises(TypeError, match=r"^SystemConfig.pim must be of type PimConfig, not AcceleratorConfig"):
        SystemConfig(array=PRESETS["systolic-8x8"], pim=PRESETS["systolic-8x8"])
    with pytest.raises(TypeError, match=r"^SystemConfig.channels must be of type int, not True"):
        SystemConfig(array=PRESETS["systolic-8x8"], pim=PIM_PRESETS["pim-tiny"], channels=True)
    with pytest.raises(TypeError, match=r"^SystemConfig.placement must be a tuple of \(kernel, device\), not {'attention': "):
        SystemConfig.from_dict({"array": "systolic-8x8", "pim": "pim-duplex-tiny", "placement": {"attention": "pim"}})
    with pytest.raises(ConfigError, match=r"^system must be one of duplex-tiny, .*, not 'duplex'$"):
        system_named("duplex")
