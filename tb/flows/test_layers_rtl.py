"""A layer of the shipped Llama and one of MiniLM on the RTL of engines with packed weights: all memory as the golden device's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.embed import embed
from flows.generate import generate
from flows.profile import ProfiledDevice
from hw.presets import preset_named
from sw.embed import CompiledEncoder
from sw.generate import CompiledModel
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.models.llama import LlamaModel
from sw.models.minilm import MiniLM
from sw.sampling import Sampler

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "python-llama-1m"
SENTENCE = "Bits of either kind are skipped."

pytestmark = pytest.mark.full


def cases(*rows):
    """Return cases of (preset, format, …); those of one preset share a simulator, and so a worker."""
    return [pytest.param(*row, id="-".join(map(str, row[:2])), marks=pytest.mark.xdist_group(row[0])) for row in rows]


@pytest.mark.parametrize(("preset", "weights"), cases(
    ("bitmod-8x8", "bitmod4-g128"), ("bitmod-8x8", "int6-g128-int8"), ("bitvert-8x8", "bbs-shift-g32"),
    ("bitvert-8x8", "bbs-shift-g32-1of4"), ("hss-8x8", "2:4"), ("hss-8x8", "hss-4:6-2:4"), ("hss-8x8", "hss-4:8-2:4"),
    ("hss-8x8", "tasd-2:4+1:8"), ("tasd-8x8", "int8")))
def test_a_layer_of_the_shipped_llama(preset, weights):
    """A prompt and two tokens through its first layer and its head; cycles within 5 % of those predicted."""
    config = preset_named(preset)
    if weights not in config.weight_formats:
        config = replace(config, weight_formats=(*config.weight_formats[:-1], weights))
    shipped = LlamaModel(SHIPPED)
    model, given = replace(shipped.config, layers=1), shipped.checkpoint.weights()
    compiled = CompiledModel(config, model, replace(given, layers=[given.layers[0]]), context=64,
                             plan=WeightPlan.uniform(1, weights))
    found = generate(compiled, ProfiledDevice(config), shipped.tokenizer.encode(b"def f(x):"), 2, Sampler())
    assert found.match is True
    assert found.decode.cycles == pytest.approx(found.decode.predicted_cycles, rel=0.05)


@pytest.mark.parametrize(("preset", "weights", "near"), cases(
    ("bitmod-8x8", "bitmod4-g128", 0.9), ("bitvert-8x8", "bbs-shift-g32", 0.9)))
def test_a_layer_of_minilm(preset, weights, near):
    """A sentence through its embeddings, first layer and pooling; the vector is near that of float32."""
    config, model = preset_named(preset), MiniLM()
    weights_of = replace(model.weights, layers=[model.weights.layers[0]])
    compiled = CompiledEncoder(config, replace(model.config, layers=1), weights_of, chunk=4, weight_format=weights)
    found = embed(compiled, ProfiledDevice(config), [model.sentence(SENTENCE)])
    assert found.match is True
    sentence, = found.sentences
    assert near < sentence.cosine < 1
    assert np.isclose(np.linalg.norm(sentence.embedding.vector), 1)
    assert sentence.embedding.result.cycles == pytest.approx(sentence.prediction.cycles, rel=0.05)
