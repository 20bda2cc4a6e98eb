"""A BERT checkpoint as the accelerator's memory holds it: int8 weights, a scale and a bias for each output, norms, positions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.kernels.transformer.encoder import EncoderMemory, encoder_linears
from sw.kernels.transformer.shape import DecoderShape
from sw.models.bert import BertConfig, BertLayer, BertWeights
from sw.models.image import pad_heads, place_floats, place_linear

__all__ = ["place_encoder", "place_words"]

Floats = npt.NDArray[np.float32]


def place_encoder(config: AcceleratorConfig, memory: EncoderMemory, weights: BertWeights, dram: npt.NDArray[np.uint8]) -> None:
    """Write weights and positions into `dram`, (bytes,) uint8.

    Raises
    ------
    ValueError
        If a weight is not finite; the text names it.
    """
    shape, linears = memory.shape, encoder_linears(config, memory.shape)
    start, _ = memory.regions["weights"]
    _place_rows("embeddings", [*weights.norm, weights.types[0]], memory, dram, start)
    _place_rows("position embeddings", weights.positions, memory, dram, memory.regions["positions"][0])
    for number, layer in enumerate(weights.layers):
        at = memory.layers_at + number * memory.layer_bytes
        for name, (matrix, bias) in _matrices(shape, layer).items():
            place_linear(linears[name], f"{name} of layer {number}", matrix, dram, at + memory.offsets[name], bias)
        for name, pair in (("attention norm", layer.norm1), ("output norm", layer.norm2)):
            _place_rows(f"{name} of layer {number}", pair, memory, dram, at + memory.offsets[name])


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


def _matrices(shape: DecoderShape, layer: BertLayer) -> dict[str, tuple[Floats, Floats]]:
    """Return a layer's matrices, outputs × inputs, and biases, heads padded."""
    heads = [[pad_heads(shape, part.reshape(len(part), -1), parts=1) for part in pair] for pair in (layer.q, layer.k, layer.v)]
    matrix, bias = (np.concatenate(parts) for parts in zip(*heads, strict=True))
    return {"qkv": (matrix, bias[:, 0]), "output": (pad_heads(shape, layer.o[0].T, parts=1).T, layer.o[1]),
            "up": layer.up, "down": layer.down}


def _place_rows(name: str, rows: Sequence[Floats] | Floats, memory: EncoderMemory, dram: npt.NDArray[np.uint8], at: int) -> None:
    for number, row in enumerate(rows):
        place_floats(name, row, dram, at + number * memory.row_bytes)
