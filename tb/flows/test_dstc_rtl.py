"""A layer of the shipped Llama on the RTL of the dual-side sparse engine: all memory as the golden device's."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.generate import generate
from flows.profile import ProfiledDevice
from hw.presets import preset_named
from sw.generate import CompiledModel
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.models.llama import LlamaModel
from sw.sampling import Sampler

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "python-llama-1m"
WEIGHTS = ("64:64", "16:64")

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("dstc-4x8")]


def test_a_layer_of_the_shipped_llama() -> None:
    """A prompt and two tokens, weights whole and pruned to a quarter: fewer cycles, never more than predicted for activations
    without zeros, and near that."""
    config = preset_named("dstc-4x8")
    shipped = LlamaModel(SHIPPED)
    model, given = replace(shipped.config, layers=1), shipped.checkpoint.weights()
    cycles = []
    for weights in WEIGHTS:
        compiled = CompiledModel(config, model, replace(given, layers=[given.layers[0]]), context=64,
                                 plan=WeightPlan.uniform(1, weights))
        found = generate(compiled, ProfiledDevice(config), shipped.tokenizer.encode(b"def f(x):"), 2, Sampler())
        assert found.match is True
        assert 0.85 * found.decode.predicted_cycles < found.decode.cycles < 1.03 * found.decode.predicted_cycles
        cycles.append(found.decode.cycles)
    assert cycles[1] < 0.8 * cycles[0]
