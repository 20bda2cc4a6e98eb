"""What outlier channels of a BERT encoder are divided by before they are rounded to int8 (SmoothQuant, Xiao et al., ICML 2023).

A few channels behind BERT's norms are some ten times larger than the rest, in every sentence alike, and would set the scale of
every token. Dividing γ and β of a norm by a factor for each channel, and multiplying the inputs of the linears behind by it,
changes nothing but the rounding; what a residual keeps is multiplied back where its bias is added, in the same pass.

We differ in what the factors are found with: sentences of random tokens show the same outliers as text (measured on
all-MiniLM-L6-v2: the embeddings are as close to float32), so that none is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sw.models.bert import Array, BertConfig, BertWeights, embed_float, halves_float

__all__ = ["Smoothing", "smoothing"]

EXPONENT = 0.65             # of the activations' magnitudes; the weights' have the rest: what gave the best cosines
LENGTHS = (8, 128)          # tokens of the sentences
LEAST = 1e-5                # of a magnitude


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoothing:
    """Factors of a layer's inputs, float32 of (hidden,): of its queries, keys and values, and of its MLP."""

    attention: Array
    mlp: Array


def smoothing(config: BertConfig, weights: BertWeights, seed: int = 0) -> list[Smoothing]:
    """Return the factors of each layer: (max |x|)^e / (max |w|)^(1 − e) of each channel.

    Parameters
    ----------
    seed : int
        Of the tokens.
    """
    rng = np.random.default_rng(seed)
    states = [embed_float(config, weights, rng.integers(0, config.vocab, min(length, config.context)).tolist())
              for length in LENGTHS]
    found = []
    for layer in weights.layers:
        inputs = states
        halves = [halves_float(config, layer, x) for x in states]
        attended, states = ([half[i] for half in halves] for i in range(2))
        found.append(Smoothing(attention=_factors(inputs, [layer.q[0], layer.k[0], layer.v[0]]),
                               mlp=_factors(attended, [layer.up[0]])))
    return found


def _factors(inputs: Sequence[Array], matrices: Sequence[Array]) -> Array:
    x = np.abs(np.concatenate(inputs)).max(axis=0)
    w = np.abs(np.concatenate(matrices)).max(axis=0)
    return np.asarray(np.maximum(x, LEAST) ** EXPONENT / np.maximum(w, LEAST) ** (1 - EXPONENT), np.float32)
