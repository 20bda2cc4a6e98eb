"""A BERT checkpoint as the accelerator's memory holds it: int8 weights, a scale and a bias for each output, norms, positions.

Outlier channels are smoothed (`sw.models.bert_smoothing`): rows of float32 in memory are those of the model over the factors of
the linears that read them, but for the last layer's, whose factors are 1.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.kernels.transformer.encoder import EncoderMemory, encoder_linears
from sw.kernels.transformer.shape import DecoderShape
from sw.models.bert import BertConfig, BertLayer, BertWeights
from sw.models.bert_smoothing import Smoothing, smoothing
from sw.models.image import pad_heads, place_floats, place_linear

__all__ = ["place_encoder", "place_words"]

Floats = npt.NDArray[np.float32]


def place_encoder(config: AcceleratorConfig, model: BertConfig, memory: EncoderMemory, weights: BertWeights,
                  dram: npt.NDArray[np.uint8]) -> None:
    """Write weights and positions into `dram`, (bytes,) uint8.

    Raises
    ------
    ValueError
        If a weight is not finite; the text names it.
    """
    _check(weights)
    shape, linears = memory.shape, encoder_linears(config, memory.shape, memory.weight_format)
    start, _ = memory.regions["weights"]
    _place_rows("position embeddings", weights.positions, memory, dram, memory.regions["positions"][0])
    factors = smoothing(model, weights)
    behind = [layer.attention for layer in factors[1:]] + [np.ones(model.hidden, np.float32)]
    _place_rows("embeddings", [*_over(weights.norm, factors[0].attention), weights.types[0]], memory, dram, start)
    for number, (layer, smooth) in enumerate(zip(weights.layers, factors, strict=True)):
        at = memory.layers_at + number * memory.layer_bytes
        residuals = {"output": smooth.attention, "down": smooth.mlp}
        for name, (matrix, bias) in _matrices(shape, layer, smooth).items():
            place_linear(config, linears[name], f"{name} of layer {number}", matrix, dram, at + memory.offsets[name], bias,
                         residuals.get(name))
        for name, pair, factor in (("attention norm", layer.norm1, smooth.mlp), ("output norm", layer.norm2, behind[number])):
            _place_rows(f"{name} of layer {number}", _over(pair, factor), memory, dram, at + memory.offsets[name])


def place_words(model: BertConfig, memory: EncoderMemory, weights: BertWeights, tokens: Sequence[int],
                dram: npt.NDArray[np.uint8]) -> None:
    """Write the word embeddings of a sentence where the program reads them.

    Raises
    ------
    ValueError
        If a token is none of the vocabulary, or there are more than the model has positions, or none.
    """
    if not 1 <= len(tokens) <= model.context:
        raise ValueError(f"a sentence must have 1 to {model.context} tokens, not {len(tokens)}")
    if not 0 <= min(tokens) <= max(tokens) < model.vocab:
        raise ValueError(f"tokens must be between 0 and {model.vocab - 1}, not {min(tokens)} to {max(tokens)}")
    _place_rows("word embeddings", weights.words[list(tokens)], memory, dram, memory.regions["x"][0])


def _check(weights: BertWeights) -> None:
    """Check that every weight is finite."""
    tables: dict[str, Sequence[Floats]] = {
        "word embeddings": [weights.words], "position embeddings": [weights.positions], "type embeddings": [weights.types],
        "norm of the embeddings": weights.norm}
    for number, layer in enumerate(weights.layers):
        tables |= {f"{field.name} of layer {number}": getattr(layer, field.name) for field in dataclasses.fields(layer)}
    for name, tensors in tables.items():
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise ValueError(f"weights must be finite, but {name} holds NaN or infinity")


def _matrices(shape: DecoderShape, layer: BertLayer, smooth: Smoothing) -> dict[str, tuple[Floats, Floats]]:
    """Return a layer's matrices, outputs × inputs, and biases; heads padded, inputs smoothed."""
    heads = [[pad_heads(shape, part.reshape(len(part), -1), parts=1) for part in pair] for pair in (layer.q, layer.k, layer.v)]
    matrix, bias = (np.concatenate(parts) for parts in zip(*heads, strict=True))
    return {"qkv": (matrix * smooth.attention, bias[:, 0]), "output": (pad_heads(shape, layer.o[0].T, parts=1).T, layer.o[1]),
            "up": (layer.up[0] * smooth.mlp, layer.up[1]), "down": layer.down}


def _over(pair: tuple[Floats, Floats], factors: Floats) -> tuple[Floats, Floats]:
    """Return γ and β of a norm whose results are divided by factors."""
    return pair[0] / factors, pair[1] / factors


def _place_rows(name: str, rows: Sequence[Floats] | Floats, memory: EncoderMemory, dram: npt.NDArray[np.uint8], at: int) -> None:
    for number, row in enumerate(rows):
        place_floats(name, row, dram, at + number * memory.row_bytes)
