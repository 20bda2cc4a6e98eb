"""Random decoders of the Llama family in memory, compiled and run, and what the float32 model says of the same tokens."""

from dataclasses import replace

import numpy as np

from hw.presets import PRESETS
from sw.generate import Generator
from sw.golden.device import GoldenDevice
from sw.golden.llama import EXACT, KVCache, LlamaConfig, LlamaLayer, LlamaWeights, forward

__all__ = ["CONFIGS", "MODEL", "logits_of", "random_weights", "reference"]

CONFIGS = {"4x4": replace(PRESETS["systolic-4x4"], vector="transformer"), "8x8": PRESETS["systolic-8x8"],
           "16x16": PRESETS["systolic-16x16"]}
MODEL = LlamaConfig(vocab=101, hidden=72, ffn=200, layers=2, heads=4, kv_heads=2, head_dim=24, context=512, rope_theta=1e4,
                    norm_eps=1e-5, tied=False)
"""Grouped queries; no size a power of two, and most no multiple of a tile."""


def random_weights(model, seed=0):
    """Return weights whose attention is neither flat nor all on one token."""
    rng = np.random.default_rng(seed)
    d, f, q, kv = model.hidden, model.ffn, model.heads * model.head_dim, model.kv_heads * model.head_dim

    def matrix(outputs, inputs, gain=1.0):
        return (gain * rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)

    def norm():
        return rng.uniform(0.5, 1.5, d).astype(np.float32)

    layers = [LlamaLayer(attention_norm=norm(), q=matrix(q, d, 1.5), k=matrix(kv, d, 1.5), v=matrix(kv, d), o=matrix(d, q),
                         mlp_norm=norm(), gate=matrix(f, d), up=matrix(f, d), down=matrix(d, f)) for _ in range(model.layers)]
    embedding = matrix(model.vocab, d, np.sqrt(d))
    return LlamaWeights(embedding=embedding, layers=layers, norm=norm(),
                        head=embedding if model.tied else matrix(model.vocab, d))


def logits_of(compiled, tokens, session=None):
    """Return the logits of the last of `tokens`, fed to the golden device by the chunks given, and the generator."""
    generator = Generator(session or GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    for chunk in tokens:
        *_, step = generator.feed(chunk)
    return step.logits, generator


def reference(model, weights, tokens, rounding=EXACT):
    """Return the float32 model's logits of the last of `tokens`."""
    return forward(model, weights, KVCache.empty(model), np.asarray(tokens)[None], rounding)[0, -1]
