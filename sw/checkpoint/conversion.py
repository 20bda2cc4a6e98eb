"""Quantizes a checkpoint tensor by tensor, some rows at a time, so that memory does not grow with it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import (
    ColumnFormat,
    Format,
    OutlierFormat,
    ScaledFormat,
    SeriesFormat,
    SparseFormat,
    TernaryFormat,
)
from sw.checkpoint.plan import Step, Way
from sw.checkpoint.report import Errors, TensorReport
from sw.checkpoint.stored import CheckpointError, StoredTensor
from sw.checkpoint.writer import CheckpointWriter
from sw.formats import FormatError, QuantizedTensor, dequantize, quantize
from sw.formats.files import FILE_FORMAT, TENSORS_VERSION
from sw.program import METADATA_KEY

__all__ = ["convert", "whole"]

CHUNK = 1 << 20
"""Values that are quantized at a time; a codec's temporaries are some tens of bytes for each."""

Matrix = npt.NDArray[np.float32]


def whole(fmt: Format) -> bool:
    """Return whether a format is made of the whole tensor at once, because a table or a code is fitted to all values."""
    return not isinstance(fmt, ScaledFormat | ColumnFormat | SparseFormat | SeriesFormat | OutlierFormat | TernaryFormat)


def convert(steps: Sequence[Step], out: Path, *, metadata: dict[str, str] | None = None,
            progress: Callable[[StoredTensor, int], None] = lambda tensor, done: None) -> list[TensorReport]:
    """Write a checkpoint as `steps` say into one safetensors file that `sw.formats.load` reads; return a report for each tensor.

    Memory: rows that hold about a million values, whatever the tensors' sizes; with reduction axis 0 the largest tensor besides,
    and for formats fitted to whole tensors (`whole`) that tensor and its codec's temporaries.

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
        If a weight is not finite or does not fit the format; the text names the tensor.
    """
    entries: dict[str, int] = {}
    for step in steps:
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
    for start, stop in _ranges(step.tensor.rows, step.tensor.columns):
        yield np.ascontiguousarray(step.tensor.values(start, stop), np.float32)
        progress(step.tensor, stop * step.tensor.columns)


def _write_quantized(writer: CheckpointWriter, step: Step,
                     progress: Callable[[StoredTensor, int], None]) -> tuple[int, Errors | None]:
    """Write payload and side arrays; return their bytes, and the errors where the tensor was rounded."""
    name, fmt = step.tensor.name, step.format
    assert fmt is not None
    errors = Errors() if step.way is Way.QUANTIZE else None
    sides: dict[str, list[npt.NDArray[Any]]] = {side: [] for side in fmt.side}
    nbytes = done = 0
    for part, values in _quantized(step):
        if errors is not None and values is not None:
            errors.add(values, dequantize(part))
        writer.append(f"{name}.payload", part.payload)
        for side, arrays in sides.items():
            arrays.append(part.side[side])
        nbytes += part.payload.nbytes
        done += part.shape[0] * part.shape[1]
        progress(step.tensor, done)
    for side, arrays in sides.items():
        whole_side = arrays[0] if _once(fmt) else np.concatenate(arrays)
        writer.append(f"{name}.{side}", whole_side)
        nbytes += whole_side.nbytes
    return nbytes, errors


def _once(fmt: Format) -> bool:
    """Return whether side arrays are of the tensor, not of its rows."""
    return whole(fmt) or (isinstance(fmt, ScaledFormat) and fmt.outer == "tensor")


def _quantized(step: Step) -> Iterator[tuple[QuantizedTensor, Matrix | None]]:
    """Yield some rows at a time in the format, and the values that they stand for where these were rounded."""
    if step.way is Way.TAKE:
        for start, stop in _ranges(step.tensor.rows, step.tensor.columns):
            yield step.tensor.quantized(start, stop), None
        return
    fmt = step.format
    assert fmt is not None
    amax = None
    if isinstance(fmt, ScaledFormat) and fmt.outer == "tensor":
        amax = max(float(np.abs(matrix).max()) for _, matrix in _matrices(step))
    for start, matrix in _matrices(step):
        try:
            yield quantize(matrix, fmt, amax=amax), matrix
        except FormatError as error:
            raise CheckpointError(f"{step.tensor.name}, rows from {start} on: {error}") from None


def _matrices(step: Step) -> Iterator[tuple[int, Matrix]]:
    """Yield (first row, rows × values of the reduction axis) of a tensor that is quantized: finite float32."""
    tensor = step.tensor
    by_columns = step.axis != max(0, len(tensor.shape) - 1)
    stored = tensor.values(0, tensor.rows).T if by_columns else None     # columns do not lie together in the file
    rows, columns = (tensor.columns, tensor.rows) if by_columns else (tensor.rows, tensor.columns)
    each = rows if step.format is not None and whole(step.format) else None
    for start, stop in _ranges(rows, columns, each):
        part = tensor.values(start, stop) if stored is None else stored[start:stop]
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(part, np.float32)
        if not np.isfinite(matrix).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
            where = (column, start + row) if by_columns else (start + row, column)
            raise CheckpointError(f"weights must be finite float32, not {part[row, column]}: {tensor.name}, row {where[0]}, "
                                  f"column {where[1]}")
        yield start, matrix


def _ranges(rows: int, columns: int, each: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) over rows: `each` at a time, or as many as hold `CHUNK` values."""
    step = each or max(1, CHUNK // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)
