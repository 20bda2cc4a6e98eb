"""A whole decoder layer from passes and integer GEMMs, float32 in and out: what the accelerator's arithmetic does to a model.

Everything that the vector unit does is done by its golden model, command by command; a GEMM is numpy's product of integers. Where
the data lies, what is loaded and stored, and when, is of no matter here.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw.config import AcceleratorConfig
from sw.golden.llama import LlamaConfig, LlamaLayer, rotation
from sw.kernels.passes import Floats, Mask, vector_pass
from sw.kernels.passes.activations import gated, silu
from sw.kernels.passes.attention import (
    SoftmaxRows,
    accumulate,
    context,
    denominator,
    probabilities,
    reference,
    update,
    value_scales,
)
from sw.kernels.passes.cache import quantize_int8, quantize_uint4, unpack_uint4
from sw.kernels.passes.norms import rms_norm_int8, rms_statistics
from sw.kernels.passes.quantization import dequantize, inverse_scale, token_scale
from sw.kernels.passes.quantization import quantize as quantize_rows
from sw.kernels.passes.rope import rope
from sw.quantize import quantize
from tb.sw.vector_memory import VectorMemory

__all__ = ["CONFIG", "IntegerLayer", "Numerics", "run_layer"]

CONFIG = AcceleratorConfig(rows=16, columns=16, vector_lanes=16, vector="transformer", scratchpad_bytes=1 << 24,
                           accumulator_rows=1 << 16, vector_rows=1 << 16)
_ROWS = ("largest", "partial", "alpha", "before", "floor")
_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Choices that the passes leave open.

    Attributes
    ----------
    key_tile : int
        Keys of a tile of online softmax.
    row_probabilities : bool
        Probabilities are quantized by the largest of their row and tile, in a pass of its own; else by the largest value scale.
    folded_gamma : bool
        γ of the norms is in the weights that follow, so that no pass of statistics is needed.
    kv4 : bool
        Keys and values are uint4 with zero points, not int8.
    """

    key_tile: int = 64
    row_probabilities: bool = True
    folded_gamma: bool = False
    kv4: bool = False


class IntegerLayer:
    """A layer with its matrices in int8, a scale for each output channel."""

    def __init__(self, layer: LlamaLayer, numerics: Numerics):
        self.numerics, self.layer = numerics, layer
        if numerics.folded_gamma:
            one = np.ones_like(layer.attention_norm)
            self.layer = replace(layer, attention_norm=one, mlp_norm=one,
                                 **{name: getattr(layer, name) * layer.attention_norm for name in "qkv"},
                                 **{name: getattr(layer, name) * layer.mlp_norm for name in ("gate", "up")})
        self.weights = {name: quantize(getattr(self.layer, name), bits=8, axis=0) for name in _MATRICES}


class _Layer:
    """One layer over one sequence."""

    def __init__(self, config: LlamaConfig, weights: IntegerLayer, tokens: int):
        self.config, self.weights, self.numerics, self.m = config, weights, weights.numerics, tokens
        self.memory = VectorMemory(CONFIG)

    def row(self):
        return self.memory.row(m=self.m)

    def part(self, place, first):
        """Return rows from a column on; a multiple of the lanes."""
        return type(place)(place.addr + first * (4 if isinstance(place, Floats) else 1), place.stride)

    def product(self, codes, names):
        """Return the sums and column scales of int8 rows times some matrices, side by side."""
        weights = np.concatenate([self.weights.weights[name][0] for name in names]).astype(np.int64)
        scales = np.concatenate([self.weights.weights[name][1].reshape(-1) for name in names])
        rows = self.memory.get(codes, self.m, weights.shape[1]).astype(np.int64)
        return self.memory.accumulate(rows @ weights.T), self.memory.put(scales.astype(np.float32))

    def norm(self, x, gamma):
        """Return int8 rows of the normalized x, and their scales."""
        m, n, memory = self.m, self.config.hidden, self.memory
        squares, amax, scale, to = self.row(), self.row(), self.row(), memory.int8(m, n)
        place = None if self.numerics.folded_gamma else memory.put(gamma)
        memory.run([*rms_statistics(m, n, x, squares=squares, amax=amax, gamma=place),
                    *rms_norm_int8(m, n, x, to, squares=squares, amax=amax, scale=scale, inverse=self.row(),
                                   eps=self.config.norm_eps, gamma=place)])
        return to, scale

    def integers(self, x, n, amax):
        """Return int8 rows of x, and their scales."""
        to, scale, inverse = self.memory.int8(self.m, n), self.row(), self.row()
        self.memory.run([*token_scale(self.m, amax, scale), *inverse_scale(self.m, amax, inverse),
                         *quantize_rows(self.m, n, x, to, inverse=inverse)])
        return to, scale

    def turned(self, x, cos, sin):
        """Return a rotated head, float32, and its largest magnitudes."""
        half, to, amax = self.config.head_dim // 2, self.memory.floats(self.m, self.config.head_dim), self.row()
        self.memory.run(rope(self.m, half, x, self.part(x, half), cos, sin, to, self.part(to, half), amax=amax))
        return to, amax

    def cached(self, x, amax):
        """Return integers of a key or value head as the matrix engine multiplies them, and the scale of each token."""
        m, e, memory = self.m, self.config.head_dim, self.memory
        to, scales = memory.int8(m, e), memory.scalars(m)
        if self.numerics.kv4:
            packed, zero = memory.uint4(m, e), self.row()
            memory.run([*quantize_uint4(m, e, x, packed, scales, memory.scalars(m), low=self.row(), high=self.row(), zero=zero),
                        *unpack_uint4(m, e, packed, to, zeros=zero)])
        else:
            memory.run(quantize_int8(m, e, x, to, scales, amax=amax, inverse=self.row()))
        return memory.get(to, m, e).astype(np.int64), memory.get(scales, m)

    def attend(self, q, q_scale, keys, values, to, amax, seed):
        """Write a head's attention to columns of `to`."""
        m, e, memory, numerics = self.m, self.config.head_dim, self.memory, self.numerics
        (k, k_scale), (v, v_scale) = keys, values
        rows = SoftmaxRows(**{name: self.row() for name in _ROWS})
        total, o, inverse = memory.scalars(m), memory.floats(m, e), self.row()
        largest = self.row() if numerics.row_probabilities else None
        for first in range(0, m, numerics.key_tile):
            part = slice(first, first + numerics.key_tile)
            n, begin = len(k[part]), first == 0
            # rows before the tile's first key see nothing of it: they are left out, as a program leaves out whole tiles of them
            after = slice(first, m)
            rest = m - first
            later = SoftmaxRows(**{name: getattr(rows, name) + first for name in _ROWS})
            acc, codes = memory.accumulate(q[after] @ k[part].T), memory.int8(rest, n)
            seen = {"keys": memory.put(k_scale[part]), "queries": q_scale + first, "mask": Mask(1, causal=True)}
            memory.run(reference(rest, n, acc, later, first=begin, **seen))
            if numerics.row_probabilities:
                p, unit = memory.floats(rest, n), 1 / 127
                memory.run([*probabilities(rest, n, acc, p, later, values=memory.put(v_scale[part]), amax=largest + first,
                                           **seen),
                            *inverse_scale(rest, largest + first, inverse), *quantize_rows(rest, n, p, codes, inverse=inverse)])
            else:
                scales, place, unit = memory.floats(1, n), memory.floats(1, n), memory.floats(1, e)
                memory.put(v_scale[None, part], scales)
                memory.run([*value_scales(1, n, e, scales, place, memory.put(np.ones(e, np.float32)), unit, mask=None,
                                          largest=self.row(), inverse=self.row()),
                            *probabilities(rest, n, acc, codes, later, values=Floats(place.addr), **seen)])
                unit = Floats(unit.addr)
            acc = memory.accumulate(memory.get(codes, rest, n).astype(np.int64) @ v[part])
            memory.run([*update(rest, later, first=begin),
                        *denominator(rest, replace(total, addr=total.addr + 4 * first), later, first=begin),
                        *accumulate(rest, e, acc, Floats(o.addr + first * o.stride, o.stride), later, values=unit,
                                    largest=None if largest is None else largest + first, first=begin)])
        memory.run(context(m, e, o, to, total=total, inverse=inverse, amax=amax, seed=seed))

    def run(self, x):
        config, memory, m, e = self.config, self.memory, self.m, self.config.head_dim
        layer, place = self.weights.layer, memory.put(x)
        codes, scale = self.norm(place, layer.attention_norm)
        acc, columns = self.product(codes, "qkv")
        heads, kv_heads = config.heads, config.kv_heads
        n = (heads + 2 * kv_heads) * e
        qkv = memory.floats(m, n)
        memory.run(dequantize(m, n, acc, qkv, columns=columns, tokens=scale))
        cos, sin = (memory.put(table) for table in rotation(config, 0, m))
        cache = []
        for g in range(kv_heads):
            head, amax = self.part(qkv, (heads + kv_heads + g) * e), self.row()
            memory.run([vector_pass("amax", a=head, m=m, n=e, amax_to=amax)])
            cache.append((self.cached(*self.turned(self.part(qkv, (heads + g) * e), cos, sin)), self.cached(head, amax)))
        attended, amax = memory.floats(m, heads * e), self.row()
        for h in range(heads):
            turned, largest = self.turned(self.part(qkv, h * e), cos, sin)
            q, scale = self.integers(turned, e, largest)
            memory.run(token_scale(m, largest, scale, largest=127 * np.sqrt(e) * np.log(2)))
            self.attend(memory.get(q, m, e).astype(np.int64), scale, *cache[h * kv_heads // heads],
                        self.part(attended, h * e), amax, amax if h else None)
        codes, scale = self.integers(attended, heads * e, amax)
        acc, columns = self.product(codes, "o")
        memory.run(dequantize(m, config.hidden, acc, place, columns=columns, tokens=scale, add=place))
        codes, scale = self.norm(place, layer.mlp_norm)
        (gate, gates), (up, ups) = (self.product(codes, [name]) for name in ("gate", "up"))
        hidden, amax = memory.floats(m, config.ffn), self.row()
        memory.run([*silu(m, config.ffn, gate, hidden, columns=gates, tokens=scale),
                    *gated(m, config.ffn, up, hidden, hidden, columns=ups, tokens=scale, amax=amax)])
        codes, scale = self.integers(hidden, config.ffn, amax)
        acc, columns = self.product(codes, ["down"])
        memory.run(dequantize(m, config.hidden, acc, place, columns=columns, tokens=scale, add=place))
        return memory.get(place, m, config.hidden)


def run_layer(config: LlamaConfig, weights: IntegerLayer, x):
    """Return x (T, D) float32 after one layer, all T tokens a prefill from position 0; half of head_dim a multiple of 16."""
    return _Layer(config, weights, len(x)).run(x)
