"""Checkpoints whose matrices are said to be pruned already."""

from collections.abc import Sequence

from sw.checkpoint import CheckpointError, Step, Way
from sw.checkpoint.matrix import StoredMatrix
from sw.sparsity.patterns import PatternError, check_pattern

__all__ = ["check_pruned"]


def check_pruned(steps: Sequence[Step]) -> None:
    """Refuse a checkpoint with a matrix that is to be quantized to a sparse format and breaks its pattern.

    Reads every such matrix once, about a million values at a time.

    Raises
    ------
    CheckpointError
        At the first block that breaks it: the text names tensor, row, block and count.
    """
    for step in steps:
        if step.way is not Way.QUANTIZE or step.format is None:
            continue
        for first, rows in StoredMatrix(step.tensor, step.axis).chunks():
            try:
                check_pattern(step.format, rows, first_row=first)
            except PatternError as error:
                raise CheckpointError(f"{step.tensor.name}: {error}") from None
