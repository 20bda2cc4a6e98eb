"""Checkpoints: read, quantized and written tensor by tensor, with memory for some rows.

>>> from pathlib import Path
>>> from hw.formats import format_named
>>> from sw.checkpoint import convert, open_checkpoint, plan_of
>>> steps = plan_of(open_checkpoint(Path("model.safetensors")), format_named("int4-g32"))     # doctest: +SKIP
>>> reports = convert(steps, Path("out.safetensors"))                                         # doctest: +SKIP
"""

from sw.checkpoint.conversion import convert
from sw.checkpoint.plan import Step, Way, plan_of
from sw.checkpoint.reader import open_checkpoint
from sw.checkpoint.report import Errors, TensorReport
from sw.checkpoint.stored import CheckpointError, StoredTensor

__all__ = ["CheckpointError", "Errors", "Step", "StoredTensor", "TensorReport", "Way", "convert", "open_checkpoint", "plan_of"]
