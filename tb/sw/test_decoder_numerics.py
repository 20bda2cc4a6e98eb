"""A decoder layer of passes and integer GEMMs against the float32 model, and against what `heddle eval` takes it for."""

import numpy as np
import pytest

from sw.formats import dequantize, quantize
from sw.golden.llama import LlamaConfig, LlamaLayer, decoder_layer
from sw.models.llama_quantization import QuantizationPlan
from tb.sw.decoder_numerics import IntegerLayer, Numerics, run_layer

CONFIG = LlamaConfig(vocab=256, hidden=64, ffn=96, layers=1, heads=4, kv_heads=2, head_dim=32, context=64, rope_theta=1e4,
                     norm_eps=1e-5, tied=True)
MATRICES = {"q": (128, 64), "k": (64, 64), "v": (64, 64), "o": (64, 128), "gate": (96, 64), "up": (96, 64), "down": (64, 96)}
TOKENS = 40


def random_layer(rng):
    """Return weights with which scores spread over some units and every part changes the result."""
    matrices = {name: (rng.standard_normal(shape) * 1.5 / np.sqrt(shape[1])).astype(np.float32)
                for name, shape in MATRICES.items()}
    norms = {name: rng.uniform(0.5, 1.5, 64).astype(np.float32) for name in ("attention_norm", "mlp_norm")}
    return LlamaLayer(**matrices, **norms)


def model_layer(layer, x, plan=None):
    """Return what `sw.golden.llama` makes of x (T, D), rounded as a plan says."""
    cache = [np.empty((1, 2, len(x), 32), np.float32) for _ in range(2)]
    if plan is None:
        return decoder_layer(CONFIG, layer, x[None], *cache)[0]
    matrices = {name: dequantize(quantize(getattr(layer, name), plan.format_of(name))) for name in MATRICES}
    rounded = LlamaLayer(attention_norm=layer.attention_norm, mlp_norm=layer.mlp_norm, **matrices)
    return decoder_layer(CONFIG, rounded, x[None], *cache, rounding=plan.rounding())[0]


@pytest.mark.parametrize("numerics", [
    Numerics(key_tile=16), Numerics(), Numerics(row_probabilities=False, key_tile=16), Numerics(folded_gamma=True),
    Numerics(kv4=True, key_tile=16)], ids=["tiles", "one-tile", "value-scales", "folded-gamma", "kv4"])
def test_error_is_that_of_the_formats(numerics):
    rng = np.random.default_rng(3)
    layer, x = random_layer(rng), rng.standard_normal((TOKENS, 64)).astype(np.float32)
    plan = QuantizationPlan.named(weights="int8", activations="int8", kv="int4-asym-g128" if numerics.kv4 else "int8",
                                  queries="int8", probabilities="int8")
    exact = model_layer(layer, x)
    error = np.square(run_layer(CONFIG, IntegerLayer(layer, numerics), x) - exact).mean()
    of_formats = np.square(model_layer(layer, x, plan) - exact).mean()
    signal = np.square(exact - x).mean()
    assert error < signal * 10**(-1.7 if numerics.kv4 else -3.0)
    assert 0.85 * of_formats < error < 1.15 * of_formats
