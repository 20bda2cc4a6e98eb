"""What becomes of each tensor of a checkpoint that is quantized."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hw.families import Format
from sw.checkpoint.stored import CheckpointError, StoredTensor

__all__ = ["EMBEDDINGS", "Step", "Way", "plan_of"]

EMBEDDINGS = ("*embed*", "*embd*", "*wte*", "*wpe*", "shared.weight", "token_types*")
"""Names of tables that are looked up, not multiplied: kept unless asked for."""


class Way(enum.Enum):
    """How a tensor comes into the output."""

    QUANTIZE = "quantized"
    TAKE = "taken as it is in its format"
    DECODE = "decoded to float32"
    COPY = "copied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One tensor and what becomes of it.

    Attributes
    ----------
    tensor : StoredTensor
    way : Way
    format : Format or None
        In the output; None where it is no tensor of a number format.
    axis : int
        Along which blocks lie, 0 or more.
    """

    tensor: StoredTensor
    way: Way
    format: Format | None = None
    axis: int = 0


def plan_of(tensors: Sequence[StoredTensor], fmt: Format | None, *, only: Sequence[str] = (), skip: Sequence[str] = (),
            axis: int = -1) -> list[Step]:
    """Return a step for each tensor.

    Quantized are matrices of floats that are no embeddings. Tensors of GGUF that are in a format of ours already stay in it
    unless they are quantized to another; others that safetensors has no type for are decoded to float32.

    Parameters
    ----------
    tensors : sequence of StoredTensor
    fmt : Format or None
        None: nothing is quantized, only taken from GGUF.
    only : sequence of str
        Globs: quantize these, embeddings and tensors with more axes included, and no others.
    skip : sequence of str
        Globs: leave these.
    axis : int
        Reduction axis: −1, or 0 for matrices of inputs × outputs.

    Raises
    ------
    CheckpointError
        If a glob matches no tensor, nothing is quantized or taken, or `axis` is none of the two.
    """
    if axis not in (-1, 0):
        raise CheckpointError(f"the reduction axis must be -1 or 0, not {axis}")
    for glob in (*only, *skip):
        if not any(fnmatchcase(tensor.name, glob) for tensor in tensors):
            raise CheckpointError(f"a glob must match the name of a tensor; {glob!r} matches none")
    steps = [_step(tensor, fmt if _chosen(tensor, only, skip) else None, axis) for tensor in tensors]
    if not any(step.format for step in steps):
        what = "no tensor in blocks of GGUF that could be taken: give a format" if fmt is None else (
            "no matrix of floats that is to be quantized")
        raise CheckpointError(f"MODEL has {what}")
    return steps


def _chosen(tensor: StoredTensor, only: Sequence[str], skip: Sequence[str]) -> bool:
    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(tensor.name, glob) for glob in globs)

    if not tensor.is_float or len(tensor.shape) < 2 or not tensor.size or matches(skip):
        return False
    return matches(only) if only else len(tensor.shape) == 2 and not matches(EMBEDDINGS)


def _step(tensor: StoredTensor, fmt: Format | None, axis: int) -> Step:
    last = max(0, len(tensor.shape) - 1)
    if fmt is not None and (fmt != tensor.format or axis == 0):
        if axis == 0 and len(tensor.shape) > 2:
            raise CheckpointError(f"the reduction axis must be -1 for tensors of more than two axes ({tensor.name}), not 0")
        return Step(tensor=tensor, way=Way.QUANTIZE, format=fmt, axis=last if axis else 0)
    if tensor.format is not None:
        return Step(tensor=tensor, way=Way.TAKE, format=tensor.format, axis=last)
    return Step(tensor=tensor, way=Way.DECODE if tensor.needs_decoding else Way.COPY)
