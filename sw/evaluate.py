"""How well a Llama predicts text, with any of its numbers quantized."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.golden.llama import LlamaConfig, LlamaWeights, Rounding, decoder_layer, embed, logits
from sw.models.llama_quantization import QuantizationPlan, WeightQuantizer
from sw.models.llama_weights import LlamaCheckpoint

__all__ = ["Evaluation", "EvaluationError", "TextError", "Windows", "evaluate", "steps_of", "windows_of"]

Array = npt.NDArray[np.float32]
_SCORES = 1 << 21           # attention scores worked on at a time: what a core's cache, or at least not much more, holds
_LOGITS = 1 << 22           # logits worked on at a time


class TextError(ValueError):
    """A text that is too short to be evaluated."""


class EvaluationError(ValueError):
    """A model that does not compute with finite numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Pieces of a text.

    Attributes
    ----------
    tokens : (windows, context + 1) ndarray of int
        The last is only predicted.
    first : (windows,) ndarray of int
        Predictions before this one do not count: the window before has them.
    """

    tokens: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]

    @property
    def counted(self) -> int:
        """Predictions that count."""
        return int((self.tokens.shape[1] - 1 - self.first).sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    bits : float
        Mean information of a token, −log2 of its probability; for tokens that are bytes, the bits per byte.
    tokens : int
        Predictions that counted.
    bits_per_weight : float
        Stored bits of a weight of the layers' matrices (and of the head, where it is quantized), scales included.
    seconds : float
    """

    bits: float
    tokens: int
    bits_per_weight: float
    seconds: float

    @property
    def perplexity(self) -> float:
        """2 to the bits of a token."""
        return float(2.0 ** self.bits)


def windows_of(tokens: Sequence[int], context: int, count: int | None = None) -> Windows:
    """Return windows of `context` predictions that overlap by half; of each but the first, the second half counts.

    Parameters
    ----------
    tokens : sequence of int
    context : int
        At least 2.
    count : int or None
        So many windows spread evenly over the text, the first included, always the same; None, or more than there are: all.

    Raises
    ------
    TextError
        If the text is shorter than one window.
    """
    stride = context // 2
    starts = list(range(0, len(tokens) - context, stride))
    if not starts:
        raise TextError(f"the text must have at least {context + 1} tokens, a window of {context} and the one after it, "
                        f"not {len(tokens)}")
    if count is not None and count < len(starts):
        starts = [starts[i * len(starts) // count] for i in range(count)]
    data = np.asarray(tokens, np.int64)
    return Windows(tokens=np.stack([data[start:start + context + 1] for start in starts]),
                   first=np.array([stride if start else 0 for start in starts]))


def steps_of(config: LlamaConfig, windows: Windows) -> int:
    """Return how often `evaluate` reports progress."""
    return (config.layers + 1) * len(_batches(config, windows))


def evaluate(checkpoint: LlamaCheckpoint, plan: QuantizationPlan, windows: Windows, progress: Callable[[], None] = lambda: None,
             *, instead: Mapping[tuple[int, str], Array] | None = None) -> Evaluation:
    """Return how many bits the tokens of some windows take with the numbers quantized as `plan` says.

    Every window is a prefill on the golden model. Layer by layer over all windows: each layer is read and quantized once, and
    memory holds one layer and (windows, context, hidden) float32.

    `instead` replaces matrices by (layer, part), before they are quantized: pruned ones, say.

    Raises
    ------
    CheckpointError, FormatError
        If a weight or an activation does not fit its format; the text names the tensor or the place.
    EvaluationError
        If a result is no finite number, of weights too large or a format too narrow; the text names the window.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _evaluate(checkpoint, plan, windows, progress, instead or {})


def _evaluate(checkpoint: LlamaCheckpoint, plan: QuantizationPlan, windows: Windows, progress: Callable[[], None],
              instead: Mapping[tuple[int, str], Array]) -> Evaluation:
    began = time.monotonic()
    config, rounding, quantizer = checkpoint.config, plan.rounding(), WeightQuantizer(plan, checkpoint.bits_per_weight)
    weights = checkpoint.weights(lambda part, values, layer: quantizer(
        part, values if layer is None else instead.get((layer, part), values), layer))
    batches = _batches(config, windows)
    x = embed(config, weights, windows.tokens[:, :-1])
    for layer in weights.layers:
        for batch in batches:
            shape = (len(x[batch]), config.kv_heads, x.shape[1], config.head_dim)
            x[batch] = decoder_layer(config, layer, x[batch], np.empty(shape, np.float32), np.empty(shape, np.float32),
                                     rounding=rounding)
            progress()
    nats = 0.0
    for batch in batches:
        for window in range(batch.start, batch.stop):
            first = windows.first[window]
            nats += _surprise(config, weights, x[window, first:], windows.tokens[window, first + 1:], rounding)
            if not np.isfinite(nats):
                raise EvaluationError(f"the model must compute with finite numbers, but those of window {window} are not")
        progress()
    return Evaluation(bits=nats / windows.counted / float(np.log(2)), tokens=windows.counted,
                      bits_per_weight=quantizer.bits_per_weight, seconds=time.monotonic() - began)


def _batches(config: LlamaConfig, windows: Windows) -> list[slice]:
    """Return slices over the windows whose attention is computed at once."""
    count, context = windows.tokens.shape[0], windows.tokens.shape[1] - 1
    size = max(1, _SCORES // (config.heads * context * context))
    return [slice(low, min(count, low + size)) for low in range(0, count, size)]


def _surprise(config: LlamaConfig, weights: LlamaWeights, x: Array, tokens: npt.NDArray[np.int64], rounding: Rounding) -> float:
    """Return Σ −ln p(token), for x (T, D) before each token (T,)."""
    step = max(1, _LOGITS // config.vocab)
    total = 0.0
    for low in range(0, len(x), step):
        scores = logits(config, weights, x[None, low:low + step], rounding)[0]          # (T, V)
        peak = scores.max(axis=-1)
        chosen = scores[np.arange(len(scores)), tokens[low:low + step]]
        total += float((peak - chosen + np.log(np.exp(scores - peak[:, None]).sum(axis=-1))).sum(dtype=np.float64))
    return total
