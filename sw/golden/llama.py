"""A decoder of the Llama family in numpy float32: embedding, layers of attention and gated MLP, logits.

Shapes are written with these letters: B sequences, T tokens of a chunk, S tokens in the cache, the chunk included, L layers,
D hidden, F ffn, H query heads, G key and value heads, E head_dim, V vocabulary. Prefill is a chunk of T tokens, decode one of 1.

Source: Touvron et al., LLaMA, arXiv 2302.13971, section 2.2; grouped queries: Ainslie et al., EMNLP 2023. As in checkpoints of
Hugging Face, positions rotate the pairs (i, i + E/2), not (2i, 2i + 1). We differ in that angles are computed in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["EXACT", "KVCache", "LlamaConfig", "LlamaLayer", "LlamaWeights", "Rounding", "decoder_layer", "embed", "forward",
           "logits"]

Array = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaConfig:
    """Sizes and constants.

    Attributes
    ----------
    vocab, hidden, ffn, layers, heads, kv_heads, head_dim : int
        V, D, F, L, H, G, E; `heads` is a multiple of `kv_heads`, `head_dim` is even.
    context : int
        Tokens of a sequence at most.
    rope_theta : float
        Base of the wave lengths of positions.
    norm_eps : float
        Added to the mean square.
    tied : bool
        The embedding is the output matrix too.
    """

    vocab: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    rope_theta: float
    norm_eps: float
    tied: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaLayer:
    """Weights of one layer, float32, outputs × inputs."""

    attention_norm: Array       # (D,)
    q: Array                    # (H·E, D)
    k: Array                    # (G·E, D)
    v: Array                    # (G·E, D)
    o: Array                    # (D, H·E)
    mlp_norm: Array             # (D,)
    gate: Array                 # (F, D)
    up: Array                   # (F, D)
    down: Array                 # (D, F)


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaWeights:
    """Weights; `layers` may read a layer when it is asked for."""

    embedding: Array            # (V, D)
    layers: Sequence[LlamaLayer]
    norm: Array                 # (D,)
    head: Array                 # (V, D), the embedding itself where it is tied


@dataclass(kw_only=True, slots=True)
class KVCache:
    """State between chunks: rotated keys, values, and how many tokens they are of."""

    keys: Array                 # (L, B, G, capacity, E)
    values: Array               # (L, B, G, capacity, E)
    length: int = 0

    @classmethod
    def empty(cls, config: LlamaConfig, batch: int = 1, capacity: int | None = None) -> Self:
        """Return a cache for `batch` sequences of up to `capacity` tokens (default: the model's context)."""
        shape = (config.layers, batch, config.kv_heads, config.context if capacity is None else capacity, config.head_dim)
        return cls(keys=np.zeros(shape, np.float32), values=np.zeros(shape, np.float32))


def _exact(x: Array) -> Array:
    return x


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """Where numbers are quantized, each function float32 → float32 of the same shape; the last axis is the reduction axis."""

    inputs: Callable[[Array], Array] = _exact               # (B, T, D | H·E | F), of every linear
    queries: Callable[[Array], Array] = _exact              # (B, H, T, E), rotated
    keys: Callable[[Array], Array] = _exact                 # (B, G, T, E), rotated, as they are cached
    values: Callable[[Array], Array] = _exact               # (B, G, T, E), as they are cached
    probabilities: Callable[[Array], Array] = _exact        # (B, H, T, S)
    head: Callable[[Array], Array] = _exact                 # (B, T, D), input of the output matrix


EXACT = Rounding()
"""Nothing is rounded."""


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Return x / √(mean of x² + eps) · weight over the last axis."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * weight


def silu(x: Array) -> Array:
    """Return x · σ(x); by tanh, whose argument may be anything."""
    return x * (0.5 + 0.5 * np.tanh(0.5 * x))


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rotation_steps(config: LlamaConfig) -> npt.NDArray[np.float64]:
    """Return the angles of one position, (E/2,)."""
    half = config.head_dim // 2
    steps: npt.NDArray[np.float64] = config.rope_theta ** (-np.arange(half) / half)
    return steps


def rotation(config: LlamaConfig, start: int, count: int) -> tuple[Array, Array]:
    """Return cos and sin, each (count, E/2), of positions `start` and on."""
    angle = np.arange(start, start + count)[:, None] * rotation_steps(config)           # (T, E/2) float64
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Return x (..., T, E) with the pairs (i, i + E/2) of each token turned by its angles."""
    a, b = np.split(x, 2, axis=-1)                                                      # (..., T, E/2)
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)              # (..., T, E)


def split_heads(x: Array, head_dim: int) -> Array:
    """Return (B, T, heads · E) as (B, heads, T, E)."""
    return x.reshape(*x.shape[:2], -1, head_dim).swapaxes(1, 2)


def attention(q: Array, keys: Array, values: Array, rounding: Rounding = EXACT) -> Array:
    """Return (B, T, H·E) for q (B, H, T, E) over keys and values (B, G, S, E), whose last T tokens are those of q."""
    b, h, t, e = q.shape
    g, s = keys.shape[1:3]
    grouped = q.reshape(b, g, h // g * t, e)                                            # heads that share a key in one matrix
    scores = (grouped @ keys.swapaxes(2, 3)).reshape(b, h, t, s) / np.float32(np.sqrt(e))
    visible = np.arange(s) <= np.arange(s - t, s)[:, None]                              # (T, S)
    p = rounding.probabilities(softmax(np.where(visible, scores, np.float32(-np.inf))))  # (B, H, T, S)
    context = p.reshape(b, g, h // g * t, s) @ values                                   # (B, G, H/G·T, E)
    return context.reshape(b, h, t, e).swapaxes(1, 2).reshape(b, t, h * e)


def decoder_layer(config: LlamaConfig, layer: LlamaLayer, x: Array, keys: Array, values: Array, start: int = 0,
                  rounding: Rounding = EXACT) -> Array:
    """Return x (B, T, D) after one layer; its keys and values (B, G, capacity, E) get tokens `start` to `start` + T."""
    end = start + x.shape[1]
    cos, sin = rotation(config, start, x.shape[1])                                      # (T, E/2)
    y = rounding.inputs(rms_norm(x, layer.attention_norm, config.norm_eps))             # (B, T, D)
    q, k, v = (split_heads(y @ w.T, config.head_dim) for w in (layer.q, layer.k, layer.v))  # (B, H | G, T, E)
    q = rounding.queries(rotate(q, cos, sin))                                           # (B, H, T, E)
    keys[:, :, start:end] = rounding.keys(rotate(k, cos, sin))                          # (B, G, T, E)
    values[:, :, start:end] = rounding.values(v)                                        # (B, G, T, E)
    context = attention(q, keys[:, :, :end], values[:, :, :end], rounding)              # (B, T, H·E)
    x = x + rounding.inputs(context) @ layer.o.T                                        # (B, T, D)
    y = rounding.inputs(rms_norm(x, layer.mlp_norm, config.norm_eps))                   # (B, T, D)
    gated = silu(y @ layer.gate.T) * (y @ layer.up.T)                                   # (B, T, F)
    return x + rounding.inputs(gated) @ layer.down.T                                    # (B, T, D)


def embed(config: LlamaConfig, weights: LlamaWeights, tokens: Tokens) -> Array:
    """Return (B, T, D) for tokens (B, T); a ValueError where one is not below the vocabulary's size."""
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < config.vocab:
        raise ValueError(f"tokens must be between 0 and {config.vocab - 1}, not {tokens.min()} to {tokens.max()}")
    return weights.embedding[tokens]


def logits(config: LlamaConfig, weights: LlamaWeights, x: Array, rounding: Rounding = EXACT) -> Array:
    """Return (B, T, V) from the output (B, T, D) of the last layer."""
    return rounding.head(rms_norm(x, weights.norm, config.norm_eps)) @ weights.head.T


def forward(config: LlamaConfig, weights: LlamaWeights, cache: KVCache, tokens: Tokens, rounding: Rounding = EXACT) -> Array:
    """Return logits (B, T, V) of a chunk of tokens (B, T) that follows what `cache` holds, and append it to the cache."""
    capacity, end = cache.keys.shape[3], cache.length + tokens.shape[1]
    if end > capacity:
        raise ValueError(f"the chunk must end within the {capacity} tokens of the cache, not at {end}")
    x = embed(config, weights, tokens)                                                  # (B, T, D)
    for layer, keys, values in zip(weights.layers, cache.keys, cache.values, strict=True):
        x = decoder_layer(config, layer, x, keys, values, cache.length, rounding)       # (B, T, D)
    cache.length = end
    return logits(config, weights, x, rounding)                                         # (B, T, V)
