"""A BERT encoder in numpy float32: what the quantized layers, and the accelerator, are compared with.

Source: Devlin et al., BERT, NAACL 2019; the embedding of a sentence, the mean over its tokens: Reimers and Gurevych,
Sentence-BERT, EMNLP 2019.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BertConfig", "BertLayer", "BertWeights", "attention_float", "embed_float", "encode_float", "gelu", "halves_float",
    "layer_float", "layer_norm", "linear", "merge_heads", "softmax", "split_heads",
]

Array = npt.NDArray[np.float32]
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class BertConfig:
    """Sizes of a BERT encoder.

    Attributes
    ----------
    vocab, hidden, ffn, layers, heads : int
    context : int
        Tokens of a sentence at most.
    types : int
        Token types; sentences are of type 0.
    norm_eps : float
        Added to the variance.
    """

    vocab: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    context: int
    types: int
    norm_eps: float

    @property
    def head_dim(self) -> int:
        """Columns of one attention head."""
        return self.hidden // self.heads

    @property
    def kv_heads(self) -> int:
        """Every head has keys and values of its own."""
        return self.heads


@dataclass(frozen=True, kw_only=True, slots=True)
class BertLayer:
    """Weights of one layer; matrices are (out, in) as checkpoints have them.

    `q, k, v, o` and `up, down` are (weight, bias) pairs, `norm1` and `norm2` (scale, shift) pairs.
    """

    q: tuple[Array, Array]
    k: tuple[Array, Array]
    v: tuple[Array, Array]
    o: tuple[Array, Array]
    norm1: tuple[Array, Array]
    up: tuple[Array, Array]
    down: tuple[Array, Array]
    norm2: tuple[Array, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class BertWeights:
    """Weights of an encoder; `layers` may read a layer when it is asked for. `norm` is a (scale, shift) pair."""

    words: Array                # (vocab, hidden)
    positions: Array            # (context, hidden)
    types: Array                # (types, hidden)
    norm: tuple[Array, Array]
    layers: Sequence[BertLayer]


def gelu(x: Array) -> Array:
    """Return x · Φ(x), with the exact error function."""
    return (x * 0.5 * (1.0 + _erf(x / np.float32(math.sqrt(2))).astype(np.float32))).astype(np.float32)


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(np.float32)


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> Array:
    """Normalize the last axis to mean 0 and variance 1, then scale and shift."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return ((x - mean) / np.sqrt(variance + eps) * scale + shift).astype(np.float32)


def split_heads(x: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Return (tokens, hidden) as (heads, tokens, head)."""
    return np.ascontiguousarray(x.reshape(len(x), heads, -1).transpose(1, 0, 2))


def merge_heads(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (heads, tokens, head) as (tokens, hidden)."""
    return np.ascontiguousarray(x.transpose(1, 0, 2).reshape(x.shape[1], -1))


def linear(x: Array, pair: tuple[Array, Array]) -> Array:
    """Return x · Wᵀ + b."""
    return x @ pair[0].T + pair[1]


def attention_float(config: BertConfig, layer: BertLayer, x: Array) -> Array:
    """Return the heads' context, (tokens, hidden), before the output projection."""
    q, k, v = (split_heads(linear(x, pair), config.heads) for pair in (layer.q, layer.k, layer.v))
    scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(config.head_dim))
    return merge_heads(softmax(scores) @ v)


def layer_float(config: BertConfig, layer: BertLayer, x: Array) -> Array:
    """Return a layer's output, (tokens, hidden) → (tokens, hidden)."""
    return halves_float(config, layer, x)[1]


def halves_float(config: BertConfig, layer: BertLayer, x: Array) -> tuple[Array, Array]:
    """Return what a layer's attention hands to its MLP, and what that makes of it; each (tokens, hidden)."""
    attended = layer_norm(x + linear(attention_float(config, layer, x), layer.o), *layer.norm1, config.norm_eps)
    return attended, layer_norm(attended + linear(gelu(linear(attended, layer.up)), layer.down), *layer.norm2, config.norm_eps)


def embed_float(config: BertConfig, weights: BertWeights, tokens: Sequence[int]) -> Array:
    """Return the input of the first layer, (tokens, hidden)."""
    x = weights.words[list(tokens)] + weights.positions[:len(tokens)] + weights.types[0]
    return layer_norm(x, *weights.norm, config.norm_eps)


def encode_float(config: BertConfig, weights: BertWeights, tokens: Sequence[int]) -> Array:
    """Return the embedding of a sentence, (hidden,), of length one: the mean over its tokens."""
    x = embed_float(config, weights, tokens)
    for layer in weights.layers:
        x = layer_float(config, layer, x)
    mean = x.mean(axis=0)
    return (mean / max(np.linalg.norm(mean), 1e-12)).astype(np.float32)
