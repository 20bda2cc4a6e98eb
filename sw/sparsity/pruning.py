"""Whole models pruned to a pattern in one pass: by magnitude, or so that what stays makes up for what goes."""

import numpy as np
import numpy.typing as npt

from hw.families import SparseFormat
from sw.golden.llama import LlamaConfig, LlamaLayer, Rounding, decoder_layer, embed
from sw.models.llama_weights import LlamaCheckpoint
from sw.sparsity.patterns import pruned
from sw.sparsity.tasder import MATRICES, Matrix

__all__ = ["METHODS", "compensated", "gram", "prune"]

Array = npt.NDArray[np.float32]

METHODS = {
    "magnitude": "the largest magnitudes stay",
    "activations": "magnitude times the norm of the input that it meets (Wanda)",
    "compensated": "what the outputs lose least by, and the rest of a row makes up for it (optimal brain surgeon, SparseGPT)",
}
"""Name of a method → what stays. All but the first need text."""
_DAMPING = 0.01             # of the mean of the Gram matrix's diagonal, so that it can be inverted
_INPUTS = {"q": 0, "k": 0, "v": 0, "o": 1, "gate": 2, "up": 2, "down": 3}
"""Part → which of the four inputs of a layer's linears it multiplies, in their order."""


def gram(inputs: Array) -> npt.NDArray[np.float64]:
    """Return Σ x·xᵀ over the tokens of inputs (..., K): (K, K)."""
    rows = inputs.reshape(-1, inputs.shape[-1]).astype(np.float64)
    return rows.T @ rows


def compensated(fmt: SparseFormat, matrix: Array, moments: npt.NDArray[np.float64]) -> Array:
    """Return `matrix` pruned to a pattern, with the values right of what goes changed so that outputs change least.

    Block by block along K: the values with the largest w² / [H⁻¹]ᵢᵢ of what is left stay, bottom-up as `keep_masks` has it; each
    that goes is made up for by the best change of the ones after it, in the least squares of the outputs.

    Parameters
    ----------
    fmt : SparseFormat
        K that is no multiple of its block is padded with values that meet no input.
    matrix : (N, K) float32
    moments : (K, K) float64
        `gram` of the inputs.

    Notes
    -----
    Source: Hassibi and Stork, NIPS 1992; in this order with one factorization for all rows: Frantar and Alistarh, SparseGPT,
    ICML 2023. We differ in the hierarchical patterns, whose blocks are decided as a whole.
    """
    n, k = matrix.shape
    padding = -k % fmt.block
    weights = np.pad(matrix.astype(np.float64), ((0, 0), (0, padding)))
    damped = np.eye(k + padding)
    damped[:k, :k] = moments
    scale = float(np.trace(moments)) / k or 1.0
    damped[np.arange(k), np.arange(k)] += _DAMPING * scale
    # Row i is the first one of the inverse of what is left of H from i on, but for a factor: what the values after i do for it.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    diagonal = np.diagonal(factor)
    for low in range(0, k + padding, fmt.block):
        block = slice(low, low + fmt.block)
        significance = np.abs(weights[:, block]) / diagonal[block]
        gone = pruned(fmt, np.ones((n, fmt.block), np.float32), significance) == 0
        for column in range(low, low + fmt.block):
            step = np.where(gone[:, column - low], weights[:, column], 0) / diagonal[column]
            weights[:, column:] -= step[:, None] * factor[column, column:]
            weights[gone[:, column - low], column] = 0
    return weights[:, :k].astype(np.float32)


def prune(checkpoint: LlamaCheckpoint, fmt: SparseFormat, method: str,
          tokens: npt.NDArray[np.integer] | None = None) -> dict[Matrix, Array]:
    """Return every matrix of a Llama's layers pruned to a pattern, float32, not rounded.

    Layer by layer: inputs are those that come out of the pruned layers before. Memory holds one layer, and (windows, tokens,
    hidden) float32.

    Parameters
    ----------
    checkpoint : LlamaCheckpoint
    fmt : SparseFormat
    method : str
        One of `METHODS`.
    tokens : (windows, tokens) ndarray of int, or None
        Text that decides what matters; None only for "magnitude".

    Raises
    ------
    ValueError
        If there is no such method, or it needs text.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if method == "magnitude":
        return {(layer, part): pruned(fmt, getattr(weights, part)) for layer in range(checkpoint.config.layers)
                for weights in (checkpoint.layer(layer),) for part in MATRICES}
    if tokens is None:
        raise ValueError(f"the method {method!r} must have text")
    found: dict[Matrix, Array] = {}
    x = embed(checkpoint.config, checkpoint.weights(), tokens)
    for index in range(checkpoint.config.layers):
        layer = checkpoint.layer(index)
        moments = _moments(checkpoint.config, layer, x)
        thinned = {part: _thinned(fmt, getattr(layer, part), method, moments[_INPUTS[part]]) for part in MATRICES}
        found |= {(index, part): matrix for part, matrix in thinned.items()}
        fields = {name: thinned.get(name, getattr(layer, name)) for name in LlamaLayer.__dataclass_fields__}
        x = _output(checkpoint.config, LlamaLayer(**fields), x, Rounding())
    return found


def _thinned(fmt: SparseFormat, matrix: Array, method: str, moments: npt.NDArray[np.float64]) -> Array:
    if method == "compensated":
        return compensated(fmt, matrix, moments)
    return pruned(fmt, matrix, np.abs(matrix) * np.sqrt(np.diagonal(moments)))


def _moments(config: LlamaConfig, layer: LlamaLayer, x: Array) -> list[npt.NDArray[np.float64]]:
    """Return the Gram matrices of the inputs of a layer's linears, in the order in which they are computed."""
    sums: list[npt.NDArray[np.float64]] = []
    calls = 0

    def add(inputs: Array) -> Array:
        nonlocal calls
        place = calls % len(set(_INPUTS.values()))
        if place == len(sums):
            sums.append(np.zeros((inputs.shape[-1],) * 2))
        sums[place] += gram(inputs)
        calls += 1
        return inputs

    _output(config, layer, x, Rounding(inputs=add))
    return sums


def _output(config: LlamaConfig, layer: LlamaLayer, x: Array, rounding: Rounding) -> Array:
    """Return what a layer makes of x (windows, tokens, D), a window at a time."""
    shape = (1, config.kv_heads, x.shape[1], config.head_dim)
    return np.concatenate([decoder_layer(config, layer, window[None], np.empty(shape, np.float32), np.empty(shape, np.float32),
                                         rounding=rounding) for window in x])
