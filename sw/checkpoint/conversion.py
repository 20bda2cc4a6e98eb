"""Quantizes a checkpoint tensor by tensor, some rows at a time, so that memory does not grow with it."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.families import Format
from sw.checkpoint.matrix import Matrix, StoredMatrix, ranges
from sw.checkpoint.parts import in_parts, joined_sides, known_of, part_of
from sw.checkpoint.plan import Step, Way
from sw.checkpoint.report import Errors, TensorReport
from sw.checkpoint.stored import CheckpointError, StoredTensor
from sw.checkpoint.writer import CheckpointWriter
from sw.formats import FormatError, QuantizedTensor, dequantize
from sw.formats.files import FILE_FORMAT, TENSORS_VERSION, check_name
from sw.program import METADATA_KEY

__all__ = ["convert"]


def convert(steps: Sequence[Step], out: Path, *, metadata: dict[str, str] | None = None,
            progress: Callable[[StoredTensor, int], None] = lambda tensor, done: None) -> list[TensorReport]:
    """Write a checkpoint as `steps` say into one safetensors file that `sw.formats.load` reads; return a report for each tensor.

    Memory: rows that hold about a million values, whatever the tensors' sizes, and what lies beside the blocks; with reduction
    axis 0 the largest tensor besides. KVQuant's table for a tensor of more values is fitted to rows spread evenly over it.

    Parameters
    ----------
    steps : sequence of Step
    out : Path
        A .safetensors file, replaced if it exists; nothing is left behind if this raises.
    metadata : dict of str to str
        What the file's header holds besides.
    progress : function
        Called with the tensor and how many of its values are done.

    Raises
    ------
    CheckpointError
        If a weight does not fit the format, which NaN and infinities do only where it holds them; the text names the tensor.
    FormatError
        If a format is not what its name says.
    """
    entries: dict[str, int] = {}
    for step in steps:
        if step.format is not None:
            check_name(step.format)
        for name, axes in _parts(step).items():
            if name in entries:
                raise CheckpointError(f"tensors must have names of their own in the output, but {name!r} is a part of two")
            entries[name] = axes
    table = {step.tensor.name: {"format": step.format.name, "shape": list(step.tensor.shape), "axis": step.axis}
             for step in steps if step.format is not None}
    header = json.dumps({"format": FILE_FORMAT, "version": TENSORS_VERSION, "tensors": table}, sort_keys=True)
    with CheckpointWriter(out, entries, {**(metadata or {}), METADATA_KEY: header}) as writer:
        return [_write(writer, step, progress) for step in steps]


def _parts(step: Step) -> dict[str, int]:
    """Return the arrays of a tensor in the output → how many axes they have."""
    name = step.tensor.name
    if step.format is None:
        return {name: len(step.tensor.shape)}
    return {f"{name}.payload": 2, **{f"{name}.{side}": 2 for side in step.format.side}}


def _write(writer: CheckpointWriter, step: Step, progress: Callable[[StoredTensor, int], None]) -> TensorReport:
    tensor = step.tensor
    nbytes, errors = tensor.nbytes, None
    if step.way is Way.COPY:
        writer.copy(tensor.name, tensor.dtype, tensor.shape, tensor.pieces())
    elif step.way is Way.DECODE:
        nbytes = 4 * tensor.size
        writer.copy(tensor.name, "F32", tensor.shape, _watched(step, progress))
    else:
        nbytes, errors = _write_quantized(writer, step, progress)
    progress(tensor, tensor.size)
    return TensorReport(name=tensor.name, shape=tensor.shape, source=tensor.dtype, way=step.way.value,
                        format=step.format.name if step.format else None, nbytes=nbytes, errors=errors)


def _watched(step: Step, progress: Callable[[StoredTensor, int], None]) -> Iterator[npt.NDArray[np.float32]]:
    for start, stop in ranges(step.tensor.rows, step.tensor.columns):
        yield np.ascontiguousarray(step.tensor.values(start, stop), np.float32)
        progress(step.tensor, stop * step.tensor.columns)


def _write_quantized(writer: CheckpointWriter, step: Step,
                     progress: Callable[[StoredTensor, int], None]) -> tuple[int, Errors | None]:
    """Write payload and side arrays; return their bytes, and the errors where the tensor was rounded."""
    name, fmt = step.tensor.name, step.format
    assert fmt is not None
    errors = Errors() if step.way is Way.QUANTIZE else None
    sides = []
    nbytes = done = 0
    for part, values in _quantized(step.tensor, fmt, step.axis) if errors is not None else _taken(step.tensor):
        if errors is not None and values is not None:
            errors.add(values, dequantize(part))
            if not math.isfinite(errors.noise):
                raise CheckpointError(f"weights must stay finite in {fmt.name}, but {name} has one that is too large for it")
        writer.append(f"{name}.payload", part.payload)
        sides.append(part.side)
        nbytes += part.payload.nbytes
        done += part.shape[0] * part.shape[1]
        progress(step.tensor, done)
    for side, array in joined_sides(fmt, sides).items():
        writer.append(f"{name}.{side}", array)
        nbytes += array.nbytes
    return nbytes, errors


Parts = Iterator[tuple[QuantizedTensor, Matrix | None]]


def _taken(tensor: StoredTensor) -> Parts:
    """Yield some rows at a time as they are."""
    for start, stop in ranges(tensor.rows, tensor.columns):
        yield tensor.quantized(start, stop), None


def _quantized(tensor: StoredTensor, fmt: Format, axis: int) -> Parts:
    """Yield some rows at a time in the format, and the values that they stand for."""
    matrix = StoredMatrix(tensor, axis, nonfinite=fmt.takes_nonfinite)
    known = known_of(fmt, matrix)
    for start, rows in matrix.chunks() if in_parts(fmt) else [(0, matrix.read(0, matrix.rows))]:
        try:
            yield part_of(fmt, rows, known), rows
        except FormatError as error:
            raise CheckpointError(f"{tensor.name}, rows from {start} on: {error}") from None
