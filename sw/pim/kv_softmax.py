"""What the host does of an attention on a quantized KV cache: K, V and queries as codes, the softmax between the two products.

With float64 exponentials, sums and scales; the weights are rounded once, to `ptype`.
"""

import numpy as np
import numpy.typing as npt

from hw.pim.config import PimConfig
from sw.formats.tensor import quantize
from sw.pim.codes import Codes, encoded
from sw.pim.scaled_operands import Scaled, quantized_activations, quantized_weights, unit_of

__all__ = ["probabilities", "quantized_queries", "quantized_tokens", "scaled_context"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Sums = npt.NDArray[np.int32]


def quantized_tokens(config: PimConfig, rows: Floats, *, smoothing: Floats | None = None) -> Scaled:
    """Return K or V, (tokens, head_dim), with a zero point and a scale for each token.

    smoothing: what each channel of K is divided by first; queries are multiplied by it (`quantized_queries`).
    """
    smooth = rows if smoothing is None else rows / smoothing
    family = config.kvtype.partition("-g")[0]
    return quantized_weights(quantize(np.ascontiguousarray(smooth), f"{family}-g{rows.shape[1]}"))


def quantized_queries(config: PimConfig, queries: Floats, *, smoothing: Floats | None = None) -> tuple[Codes, Floats]:
    """Return codes (g, head_dim) of queries, and a scale for each."""
    return quantized_activations(queries if smoothing is None else queries * smoothing, config.xtype)


def probabilities(config: PimConfig, sums: Sums, query_scales: Floats, keys: Scaled, values: Scaled) -> tuple[Codes, Doubles]:
    """Return codes (g, tokens) of the softmax's weights, and what a row's context is multiplied by.

    s = sum · 2^unit · query scale · key scale / √dh; p = exp(s − max s); the weights are p · value scale, over the largest of
    their row, in `ptype`.
    """
    unit = 2.0 ** unit_of(config, config.kvtype, config.xtype)
    scores = sums * (unit * query_scales.astype(np.float64)[:, None] * keys.scales[:, 0] / np.sqrt(keys.codes.shape[1]))
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = p * values.scales[:, 0]
    top = weights.max(axis=1)
    return encoded((weights / top[:, None]).astype(np.float32), config.ptype), top / p.sum(axis=1)


def scaled_context(config: PimConfig, sums: Sums, factors: Doubles) -> Floats:
    """Return the outputs, (g, head_dim), of the context's sums."""
    unit = 2.0 ** unit_of(config, config.kvtype, config.ptype)
    return (sums * unit * factors[:, None]).astype(np.float32)
