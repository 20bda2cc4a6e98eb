"""A Llama checkpoint as the accelerator's memory holds it: packed weights, a scale for each output, angles, embeddings.

The weight of a norm is folded into the linears behind it, before they are rounded. Heads are padded as `DecoderShape` says; gate
and up come in tiles, each of both.
"""

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.golden.llama import LlamaLayer, LlamaWeights, rotation, rotation_steps
from sw.golden.token.angles import angle_records
from sw.kernels.transformer.decoder import DecoderMemory
from sw.kernels.transformer.layer_linears import head_linear, layer_linears
from sw.kernels.transformer.shape import DecoderShape
from sw.models.image import pad_heads, place_linear

__all__ = ["place_angles", "place_embeddings", "place_model"]

Floats = npt.NDArray[np.float32]


def place_model(config: AcceleratorConfig, memory: DecoderMemory, weights: LlamaWeights, dram: npt.NDArray[np.uint8]) -> None:
    """Write weights and angles into `dram`, (bytes,) uint8.

    Raises
    ------
    ValueError
        If a weight is not finite; the text names it.
    """
    shape = memory.shape(config, memory.tokens)
    start, _ = memory.regions["weights"]
    for run in memory.runs:
        linears = layer_linears(config, shape, memory.gate_tile, run.formats)
        for index, number in enumerate(run.layers):
            for name, matrix in _layer_matrices(shape, memory.gate_tile, weights.layers[number]).items():
                at = start + run.start + index * run.layer_bytes + run.offsets[name]
                place_linear(config, linears[name], f"{name} of layer {number}", matrix, dram, at)
    head = start + memory.runs[-1].end
    with np.errstate(over="ignore"):
        output = weights.head * weights.norm
    place_linear(config, head_linear(config, shape, 1, memory.plan.head), "head", output, dram, head)
    _place_angles(memory, shape, dram)


def place_embeddings(memory: DecoderMemory, weights: LlamaWeights, tokens: npt.ArrayLike, dram: npt.NDArray[np.uint8]) -> None:
    """Write the embeddings of a chunk's tokens, (count,), where its program reads them."""
    numbers = np.atleast_1d(np.asarray(tokens))
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < memory.model.vocab:
        raise ValueError(f"tokens must be between 0 and {memory.model.vocab - 1}, not {numbers.min()} to {numbers.max()}")
    if numbers.size > memory.tokens:
        raise ValueError(f"a chunk must have at most {memory.tokens} tokens, not {numbers.size}")
    start, _ = memory.regions["x"]
    for row, token in enumerate(numbers):
        at = start + row * memory.row_bytes
        dram[at:at + 4 * memory.model.hidden] = weights.embedding[token].astype(np.float32).view(np.uint8)


def place_angles(memory: DecoderMemory, position: int, dram: npt.NDArray[np.uint8]) -> None:
    """Write the angles of a position where a program that makes angles loads them, if asked to."""
    start, size = memory.regions["records"]
    steps = rotation_steps(memory.model)
    dram[start:start + size] = angle_records(np.pad(steps, (0, size // 16 - len(steps))), position)


def _layer_matrices(shape: DecoderShape, gate_tile: int, layer: LlamaLayer) -> dict[str, Floats]:
    """Return a layer's matrices, outputs × inputs, padded, norms folded in."""
    with np.errstate(over="ignore"):        # what overflows is refused by name when it is placed
        heads = [pad_heads(shape, matrix * layer.attention_norm) for matrix in (layer.q, layer.k, layer.v)]
        gate, up = (_pad_rows(matrix * layer.mlp_norm, shape.ffn).reshape(-1, gate_tile // 2, shape.hidden)
                    for matrix in (layer.gate, layer.up))
    return {
        "qkv": np.concatenate(heads), "output": pad_heads(shape, layer.o.T).T,
        "gate_up": np.concatenate((gate, up), axis=1).reshape(-1, shape.hidden), "down": _pad_rows(layer.down.T, shape.ffn).T,
    }


def _pad_rows(matrix: Floats, rows: int) -> Floats:
    return np.concatenate((matrix, np.zeros((rows - len(matrix), matrix.shape[1]), np.float32)))


def _place_angles(memory: DecoderMemory, shape: DecoderShape, dram: npt.NDArray[np.uint8]) -> None:
    """Write a row for each position: the cosines of half a head, then the sines."""
    cos, sin = rotation(memory.model, 0, memory.context)
    half = shape.head_dim // 2
    table = np.zeros((memory.context, shape.rope_stride // 4), np.float32)
    for part, values in enumerate((cos, sin)):
        table[:, part * half:part * half + values.shape[1]] = values
    start, _ = memory.regions["angles"]
    dram[start:start + table.nbytes] = table.view(np.uint8).ravel()


