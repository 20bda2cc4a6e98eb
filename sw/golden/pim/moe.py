"""A mixture-of-experts feed-forward layer: top-k routing and gated experts, bit by bit whatever engine runs an expert.

Source: Jiang et al., Mixtral, arXiv 2401.04088: the weights of the k best experts are the softmax of their logits alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import FP32
from hw.errors import ConfigError
from sw.golden.arith.functions import exp2, normal, reciprocal, sigmoid
from sw.golden.pim.reduction import pairwise_sum, tree_product

__all__ = ["Expert", "Routing", "expert_output", "float32_function", "gated", "moe_layer", "route"]

Floats = npt.NDArray[np.float32]
LOG2_E = np.float32(np.log2(np.e))


@dataclass(frozen=True, slots=True)
class Expert:
    """Weights of one expert: gate and up (d_ff, d), down (d, d_ff), float32 values of a format with exact products."""

    gate: Floats
    up: Floats
    down: Floats


@dataclass(frozen=True, slots=True)
class Routing:
    """Where tokens go: experts, (T, k) int64 with the best first, and their weights, (T, k) float32, which add up to 1."""

    experts: npt.NDArray[np.int64]
    weights: Floats

    def load(self, count: int) -> list[int]:
        """Return the tokens of each of `count` experts."""
        return [int(n) for n in np.bincount(self.experts.ravel(), minlength=count)]


def route(logits: Floats, top: int) -> Routing:
    """Return the `top` experts of each token by their logits, (T, experts) float32; of equal ones the lower number first.

    Raises
    ------
    ConfigError
        If there are not so many experts, or a logit is NaN.
    """
    if not 1 <= top <= logits.shape[1]:
        raise ConfigError(f"top must be between 1 and the {logits.shape[1]} experts, not {top!r}")
    if np.isnan(logits).any():
        raise ConfigError(f"logits must be numbers, not NaN as of token {np.argwhere(np.isnan(logits))[0][0]}")
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    best = np.take_along_axis(logits, order, axis=1)
    powers = float32_function(exp2, (best - best[:, :1]) * LOG2_E)
    return Routing(order, powers * float32_function(reciprocal, pairwise_sum(powers))[:, None])


def gated(gate: Floats, up: Floats) -> Floats:
    """Return silu(gate) · up, rounded to float16; any shape."""
    values = gate * float32_function(sigmoid, gate) * up
    return values.astype(np.float16).astype(np.float32)


def expert_output(expert: Expert, x: Floats, *, lanes: int, slots: int) -> Floats:
    """Return what one expert makes of tokens: down · (silu(gate · x) · (up · x)); (T, d) → (T, d).

    What goes into the last product is rounded to float16, as the X buffer has it.
    """
    gate, up = (tree_product(matrix, x, lanes=lanes, slots=slots).T for matrix in (expert.gate, expert.up))
    return np.ascontiguousarray(tree_product(expert.down, gated(gate, up), lanes=lanes, slots=slots).T)


def moe_layer(experts: list[Expert], router: Floats, x: Floats, *, top: int, lanes: int, slots: int) -> tuple[Floats, Routing]:
    """Return the layer's output, (T, d), and its routing.

    A token's experts are added in order of their numbers, each output times its weight first, so it does not matter which engine
    has run which expert, nor when.

    Parameters
    ----------
    experts : list of Expert
    router : ndarray, (experts, d)
    x : ndarray, (T, d)
        float32 values of float16.
    top : int
    lanes, slots : int
        Of the MAC array.

    Raises
    ------
    ConfigError
        If shapes do not fit each other, or a value is no number.
    """
    _check(experts, router, x)
    routing = route(np.ascontiguousarray(tree_product(router, x, lanes=lanes, slots=slots).T), top)
    result = np.zeros_like(x)
    for number, expert in enumerate(experts):
        token, place = np.nonzero(routing.experts == number)
        if len(token):
            result[token] += expert_output(expert, x[token], lanes=lanes, slots=slots) * routing.weights[token, place][:, None]
    return result, routing


def _check(experts: list[Expert], router: Floats, x: Floats) -> None:
    if x.ndim != 2:
        raise ConfigError(f"x must be of shape (tokens, d), not {x.shape}")
    if router.shape != (len(experts), x.shape[1]):
        raise ConfigError(f"router must be of shape {(len(experts), x.shape[1])}, not {router.shape}")
    for number, expert in enumerate(experts):
        hidden = len(expert.down.T)
        for name, shape in (("gate", (hidden, x.shape[1])), ("up", (hidden, x.shape[1])), ("down", (x.shape[1], hidden))):
            if getattr(expert, name).shape != shape:
                raise ConfigError(f"{name} of expert {number} must be of shape {shape}, not {getattr(expert, name).shape}")


def float32_function(function: Callable[..., Any], values: Floats) -> Floats:
    """Return a function of `sw.golden.arith.functions` of float32 values, as the hardware makes it: any shape → that shape."""
    options = {} if function in (sigmoid, normal) else {"subnormals": True}
    words = function(FP32, np.ascontiguousarray(values).view(np.uint32), **options)
    return words.astype(np.uint32).view(np.float32)
