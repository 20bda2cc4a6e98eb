"""Pruned models as checkpoints."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sw.checkpoint import Step, Way, open_checkpoint
from sw.checkpoint.output import check_output, opened_output
from sw.checkpoint.writer import CheckpointWriter
from sw.models.llama_weights import LAYER_TENSORS
from sw.sparsity.tasder import Matrix

__all__ = ["check_pruned_output", "save_pruned"]


def check_pruned_output(model: Path, out: Path) -> None:
    """Refuse a folder that must not or cannot be written; one that exists is never replaced.

    Raises
    ------
    CheckpointError
        As `sw.checkpoint.output.check_output`.
    """
    check_output(out, model, [Step(tensor=tensor, way=Way.DECODE) for tensor in open_checkpoint(model)], force=False)


def save_pruned(model: Path, out: Path, matrices: Mapping[Matrix, npt.NDArray[np.float32]], note: dict[str, object]) -> None:
    """Write a Llama's folder again with other matrices in its layers; whole or not at all.

    Parameters
    ----------
    model, out : Path
        Folders; configuration and tokenizer are copied.
    matrices : mapping of (layer, part) to ndarray
        Instead of the stored ones; in float32. All other tensors are copied as they are.
    note : dict
        Stands as "quantization" in the config.json of `out`.
    """
    named = {f"model.layers.{layer}.{LAYER_TENSORS[part]}.weight": matrix for (layer, part), matrix in matrices.items()}
    tensors = open_checkpoint(model)
    with opened_output(out, model, note) as weights, \
            CheckpointWriter(weights, {tensor.name: len(tensor.shape) for tensor in tensors}, {"format": "pt"}) as writer:
        for tensor in tensors:
            if tensor.name in named:
                writer.copy(tensor.name, "F32", tensor.shape, [named[tensor.name]])
            else:
                writer.copy(tensor.name, tensor.dtype, tensor.shape, tensor.pieces())
