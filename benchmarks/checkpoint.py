"""Peak memory of `heddle quantize`, against the largest tensor: the whole command in a process of its own.

The checkpoint is one bfloat16 matrix of 512 MiB, several times what the imports hold; a piece of normal values is repeated until
it is full. With float32 weights the ratio would be half. Memory must stay below twice the tensor (`BOUND`); the process itself
says how much it held. Needs about a gigabyte of disk in the folder for temporary files, and up to a minute a format.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from rich.filesize import decimal

from sw.checkpoint import open_checkpoint
from sw.checkpoint.writer import CheckpointWriter

__all__ = ["BOUND", "CASES", "SHAPE", "rows"]

SHAPE = (16_384, 16_384)
BOUND = 2.0
"""Largest ratio of peak memory to the largest tensor."""

CASES: tuple[tuple[str, int], ...] = (
    ("int4-g32", -1), ("nvfp4", -1), ("razer", -1), ("2:4", -1), ("bbs-average-g32", -1), ("bbs-shift-g32", -1),
    ("tasd-2:4+2:8", -1),
    ("sdq-7:8-1:8int8-6:8fp4-g64", -1), ("sherry", -1), ("kvquant4-g128", -1), ("dfloat11", -1), ("int4-g32", 0), ("dfloat11", 0))
"""Format and reduction axis: one format at least of each family; along axis 0 the matrix is transposed."""

_PIECE = 64
"""Rows of values that differ."""


def _write_model(path: Path, shape: tuple[int, int]) -> None:
    """Write a checkpoint of one matrix, some rows at a time: this process must stay small, too."""
    rows, columns = shape
    piece = np.random.default_rng(0).standard_normal((min(_PIECE, rows), columns), np.float32).astype(ml_dtypes.bfloat16)
    with CheckpointWriter(path, {"w": 2}, {}) as writer:
        for start in range(0, rows, _PIECE):
            writer.append("w", piece[:rows - start])


def rows(cases: Sequence[tuple[str, int]] = CASES, shape: tuple[int, int] = SHAPE) -> list[dict[str, Any]]:
    """Return a row for each format and axis."""
    table = []
    with tempfile.TemporaryDirectory() as name:
        model, out = Path(name) / "model.safetensors", Path(name) / "out.safetensors"
        _write_model(model, shape)
        tensor, = open_checkpoint(model)
        for fmt, axis in cases:
            command = [sys.executable, "-m", "flows.cli", "quantize", str(model), "--format", fmt, "--axis", str(axis),
                       "-o", str(out), "--json"]
            answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            out.unlink()
            peak = answer["peak_memory_bytes"]
            table.append({"format": fmt, "axis": axis, "tensor": decimal(tensor.nbytes), "peak memory": decimal(peak),
                          "ratio": peak / tensor.nbytes, "M weights/s": tensor.size / answer["seconds"] / 1e6,
                          f"below {BOUND:g}": "yes" if peak < BOUND * tensor.nbytes else "NO"})
    return table
