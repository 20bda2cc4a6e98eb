"""Decode attention next to DRAM, bit by bit: scores, softmax in one pass or three, product with V, merging of parts.

The g query heads that share a KV head are g rows of X. Scores are float32 and in powers of two: their scale has log₂ e in it.
Exponentials are those of the vector unit. The softmax's weights are rounded to the format in which they meet V, and the sum
that the output is divided by is of the rounded ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.elements import FP32
from hw.errors import ConfigError
from hw.pim.config import PROBABILITY_TYPES, PimConfig
from sw.formats.tensor import dequantize, quantize
from sw.golden.arith.functions import exp2, reciprocal
from sw.golden.pim.reduction import bcast_product, tree_product
from sw.golden.vector.elements import greater, row_maximum, row_sum

__all__ = ["Floats", "Numerics", "State", "attend", "attend_parts", "attend_three_stage", "combine_weights", "empty_state",
           "finish", "merge", "merge_all", "numerics_of", "online", "online_weights", "score_scale", "scores"]

Floats = npt.NDArray[np.float32]
_LARGEST = {"float16": 15, "bfloat16": 60, "float8_e4m3fn": 8, "float8_s0e4m4": 0, "float32": 60}
"""Format of weights → the largest power of two that a weight may be."""
assert {*PROBABILITY_TYPES, "float32"} == set(_LARGEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """What decides the bits of an attention.

    Attributes
    ----------
    lanes, slots : int
        Of the MAC array: width of an adder tree, accumulators in rotation.
    segments : int
        Of the MAC array: tokens of a product with V that it takes at once, whose sums are added last.
    sm_lanes : int
        Scores that the softmax unit takes at once: a slice, whose weights it adds up before the slices (`row_sum`).
    ptype : str
        Format of the softmax's weights; "float32" leaves them as they are.
    block : int
        Tokens of a step of the online softmax.
    lazy : float
        The maximum moves only if a score is more than this above it: fewer times that the output is scaled. 0: always.
    """

    lanes: int
    slots: int
    sm_lanes: int
    segments: int = 1
    ptype: str = "float16"
    block: int = 64
    lazy: float = 0.0

    def __post_init__(self) -> None:
        """Check what would give wrong results."""
        if self.ptype not in _LARGEST:
            raise ConfigError(f"Numerics.ptype must be one of {', '.join(_LARGEST)}, not {self.ptype!r}")
        if self.block < 1:
            raise ConfigError(f"Numerics.block must be at least 1, not {self.block!r}")
        most = _LARGEST[self.ptype]
        if not 0 <= self.lazy <= most:
            raise ConfigError(f"Numerics.lazy must be between 0 and {most:g} with {self.ptype}, not {self.lazy!r}")


def numerics_of(config: PimConfig, *, block: int = 64, lazy: float = 0.0) -> Numerics:
    """Return the numerics of a PIM logic die."""
    return Numerics(lanes=config.width, slots=config.n_acc_slots, sm_lanes=config.sm_lanes,
                    segments=config.segments, ptype=config.ptype, block=block, lazy=lazy)


@dataclass(frozen=True, slots=True)
class State:
    """An attention that has seen some of its tokens: maximum and sum of g rows, (g,), and their outputs so far, (g, dh)."""

    maximum: Floats
    total: Floats
    output: Floats


def empty_state(rows: int, head_dim: int) -> State:
    """Return the state of an attention that has seen nothing."""
    return State(np.full(rows, -np.inf, np.float32), np.zeros(rows, np.float32), np.zeros((rows, head_dim), np.float32))


def score_scale(head_dim: int) -> np.float32:
    """Return log₂ e / √dh."""
    return np.float32(np.log2(np.e) / np.sqrt(head_dim))


def scores(numerics: Numerics, keys: Floats, queries: Floats, scale: np.float32) -> Floats:
    """Return the scores in powers of two: (T, dh) and (g, dh) → (g, T) float32."""
    return np.ascontiguousarray((tree_product(keys, queries, lanes=numerics.lanes, slots=numerics.slots) * scale).T)


def _exp2(x: Floats) -> Floats:
    words = exp2(FP32, np.ascontiguousarray(x).view(np.uint32), subnormals=True)
    return words.astype(np.uint32).view(np.float32)


def _reciprocal(x: Floats) -> Floats:
    return reciprocal(FP32, np.ascontiguousarray(x).view(np.uint32), subnormals=True).astype(np.uint32).view(np.float32)


def _rounded(numerics: Numerics, weights: Floats) -> Floats:
    return weights if numerics.ptype == "float32" else dequantize(quantize(weights, numerics.ptype))


def online_weights(numerics: Numerics, state: State, s: Floats) -> tuple[State, Floats]:
    """Return the state that awaits the product with V, and the weights of one block of scores, both (g, B): SFO.

    m' = max(m, max s); α = 2^(m − m'); p = 2^(s − m'), rounded; l' = l·α + Σp; O' = O·α. What equals m' has the power 1, +∞ too;
    while all scores of a row are −∞ their weights are 0, and l stays 0. A row with a NaN becomes NaN.
    """
    top = row_maximum(s, None)
    with np.errstate(invalid="ignore"):
        maximum = greater(state.maximum, top)
        if numerics.lazy:
            stays = top <= state.maximum + np.float32(numerics.lazy)
            maximum = np.where(stays, state.maximum, maximum)
        alpha = np.where(state.maximum == maximum, np.float32(1), _exp2(state.maximum - maximum))
        weights = _rounded(numerics, _powers(s, maximum))
        total = state.total * alpha + row_sum(weights, numerics.sm_lanes)
        return State(maximum, total, state.output * alpha[:, None]), weights


def _powers(s: Floats, maximum: Floats) -> Floats:
    """Return 2^(s − maximum), (g, B): 1 where they are equal, but 0 where they are −∞."""
    with np.errstate(invalid="ignore"):
        powers = np.where(s == maximum[:, None], np.float32(1), _exp2(s - maximum[:, None]))
    return np.where(np.isneginf(maximum)[:, None], np.float32(0), powers)


def online(numerics: Numerics, state: State, s: Floats, values: Floats) -> State:
    """Return the state after one block of scores, (g, B), and its V, (B, dh): SFO, then MAC into the scaled outputs."""
    scaled, weights = online_weights(numerics, state, s)
    return State(scaled.maximum, scaled.total, scaled.output + _context(numerics, weights, values))


def attend(numerics: Numerics, queries: Floats, keys: Floats, values: Floats, scale: np.float32) -> State:
    """Return the state after all tokens, block by block, of one KV head: (g, dh), (T, dh), (T, dh)."""
    state = empty_state(*queries.shape)
    for start in range(0, len(keys), numerics.block):
        part = slice(start, start + numerics.block)
        state = online(numerics, state, scores(numerics, keys[part], queries, scale), values[part])
    return state


def _context(numerics: Numerics, weights: Floats, values: Floats) -> Floats:
    """Return the product of weights (g, B) with V (B, dh), in the order in which the MAC array adds."""
    return bcast_product(values, weights, slots=numerics.slots, segments=numerics.segments)


def finish(state: State) -> Floats:
    """Return the outputs, (g, dh): one reciprocal a row, then products. A row that has seen nothing is zero."""
    with np.errstate(invalid="ignore"):
        return state.output * _shares(state.total)[:, None]


def _shares(total: Floats) -> Floats:
    """Return 1 / l, (g,); 0 where l is."""
    return np.where(total == 0, np.float32(0), _reciprocal(total))


def combine_weights(numerics: Numerics, s: Floats) -> Floats:
    """Return the weights of all scores, (g, T): SFM. The maximum, exponentials and their sum, then divided by it and rounded.

    Infinities and NaN are as in `online_weights`; of a row of −∞ weights are 0.
    """
    weights = _powers(s, row_maximum(s, None))
    with np.errstate(invalid="ignore"):
        return _rounded(numerics, weights * _shares(row_sum(weights, numerics.sm_lanes))[:, None])


def attend_three_stage(numerics: Numerics, queries: Floats, keys: Floats, values: Floats, scale: np.float32) -> Floats:
    """Return the outputs, (g, dh), by SFM: the product of its weights with V is the output."""
    weights = combine_weights(numerics, scores(numerics, keys, queries, scale))
    return _context(numerics, weights, values)


def merge(a: State, b: State) -> State:
    """Return the state of both parts' tokens: MRG.

    m = max(m_a, m_b); with α = 2^(m_a − m), β = 2^(m_b − m): l = l_a·α + l_b·β, O = O_a·α + O_b·β, each operation rounded. A part
    that has seen nothing changes nothing.
    """
    maximum = greater(a.maximum, b.maximum)
    with np.errstate(invalid="ignore"):
        alpha, beta = (np.where(part.maximum == maximum, np.float32(1), _exp2(part.maximum - maximum)) for part in (a, b))
        return State(maximum, a.total * alpha + b.total * beta, a.output * alpha[:, None] + b.output * beta[:, None])


def merge_all(states: Sequence[State]) -> State:
    """Return the merged state of all parts: neighbours first, then neighbours of those; an odd one waits."""
    level = list(states)
    while len(level) > 1:
        merged = [merge(a, b) for a, b in zip(level[0::2], level[1::2], strict=False)]
        level = merged + level[len(merged) * 2:]
    return level[0]


def attend_parts(numerics: Numerics, queries: Floats, keys: Floats, values: Floats, scale: np.float32, *, tokens: int = 1,
                 dims: int = 1) -> Floats:
    """Return the outputs, (g, dh), of an attention that is spread over tokens × dims units.

    Parameters
    ----------
    tokens : int
        Token-centric partition: unit u has the tokens t with t mod `tokens` = u, and a softmax of its own; states are merged.
    dims : int
        Head-dim partition: a unit has dh / `dims` elements; the parts of a score are added in order, then scaled.

    Raises
    ------
    ConfigError
        If dh does not divide, or there is no unit or no token.
    """
    head_dim = queries.shape[1]
    for name, value in (("tokens", tokens), ("dims", dims)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value!r}")
    if head_dim % dims:
        raise ConfigError(f"dims must be a divisor of head_dim ({head_dim}), not {dims!r}")
    if not len(keys):
        raise ConfigError(f"keys must be of at least one token, not {len(keys)}")
    each = head_dim // dims
    slices = [slice(d * each, (d + 1) * each) for d in range(dims)]
    states = []
    for unit in range(min(tokens, len(keys))):
        k, v = keys[unit::tokens], values[unit::tokens]
        state = empty_state(*queries.shape)
        for start in range(0, len(k), numerics.block):
            block = slice(start, start + numerics.block)
            partial = [tree_product(k[block, part], queries[:, part], lanes=numerics.lanes, slots=numerics.slots)
                       for part in slices]
            total = partial[0]
            for one in partial[1:]:
                total = total + one
            state = online(numerics, state, np.ascontiguousarray((total * scale).T), v[block])
        states.append(state)
    return finish(merge_all(states))
