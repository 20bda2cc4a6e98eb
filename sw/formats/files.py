"""Quantized tensors in files.

File format (version 1): one safetensors file. Its metadata has one entry, `heddle`: a JSON object with `format`
("heddle-tensors"), `version`, and `tensors`: name → the format's name, shape and axis. A quantized tensor lies in it as
`<name>.payload` (uint8) and `<name>.<side>` for each side array of its format; a plain array as `<name>`.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.families import Format
from hw.formats import format_named
from sw.formats.codec import FormatError
from sw.formats.tensor import QuantizedTensor
from sw.program import ProgramError, read_container, write_container

__all__ = ["FILE_FORMAT", "RESERVED", "TENSORS_VERSION", "check_name", "load", "save"]

TENSORS_VERSION = 1
FILE_FORMAT = "heddle-tensors"
RESERVED = "__metadata__"
"""What no tensor of a safetensors file can be called."""

_KINDS = "bool, int8 to int64, uint8 to uint64, float16, bfloat16, float32, float64 or complex64"
_DTYPES = {"bool", "float16", "bfloat16", "float32", "float64", "complex64",
           *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
"""Types of arrays that a file takes and brings back."""

Tensors = Mapping[str, QuantizedTensor | npt.NDArray[Any]]


def check_name(fmt: Format) -> None:
    """Refuse a format that a file would not bring back: one that was changed, under the name that it had.

    Raises
    ------
    FormatError
        If `format_named` gives another format, or none, for its name.
    """
    with contextlib.suppress(ConfigError):
        if format_named(fmt.name) == fmt:
            return
    raise FormatError(f"a format in a file must be what its name says, not another one called {fmt.name!r}: add it to hw.formats")


def save(path: str | Path, tensors: Tensors) -> None:
    """Write quantized tensors and plain arrays into one file, which is there whole or not at all.

    Raises
    ------
    FormatError
        If the parts of two tensors would share a name, one is called "__metadata__", which safetensors keeps for itself, or a
        format is not what its name says, so that `load` would read another, or an array is of a type that files do not have.
    OSError
        If the file cannot be written, for example because its folder does not exist.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    table = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, QuantizedTensor):
            check_name(tensor.format)
        parts = {name: tensor} if not isinstance(tensor, QuantizedTensor) else {
            f"{name}.payload": tensor.payload, **{f"{name}.{side}": array for side, array in tensor.side.items()}}
        for part, array in parts.items():
            if part in arrays:
                raise FormatError(f"tensors must have names of their own, but {part!r} is a part of two")
            if part == RESERVED:
                raise FormatError(f"a tensor must not be called {RESERVED}, which safetensors keeps for itself")
            if (dtype := np.asarray(array).dtype).name not in _DTYPES:
                raise FormatError(f"arrays in a file must be of {_KINDS}, not {dtype} ({part!r})")
            arrays[part] = np.asarray(array, order="C")         # not `ascontiguousarray`, which gives a scalar an axis
        if isinstance(tensor, QuantizedTensor):
            table[name] = {"format": tensor.format.name, "shape": list(tensor.shape), "axis": tensor.axis}
    write_container(path, FILE_FORMAT, TENSORS_VERSION, arrays, {"tensors": table})


def load(path: str | Path) -> dict[str, QuantizedTensor | npt.NDArray[Any]]:
    """Return what `save` wrote.

    Raises
    ------
    FormatError
        If the file is missing, truncated, of another kind or version, or a tensor in it is not whole; the text names it.
    """
    try:
        arrays, metadata = read_container(path, FILE_FORMAT, TENSORS_VERSION)
    except ProgramError as error:
        raise FormatError(str(error)) from None
    except RecursionError:
        raise FormatError(f"{path} must be a whole {FILE_FORMAT} file, not one with a header that is nested so deep") from None
    table = metadata.get("tensors")
    if not isinstance(table, dict):
        raise FormatError(f"{path}: its table of tensors must be an object, not {table!r}")
    tensors: dict[str, QuantizedTensor | npt.NDArray[Any]] = {}
    for name, entry in table.items():
        try:
            tensors[name] = _tensor(name, entry, arrays)
        except (ConfigError, FormatError) as error:
            raise FormatError(f"{path}: tensor {name!r} must be whole: {error}") from None
    return tensors | arrays


def _tensor(name: str, entry: Any, arrays: dict[str, npt.NDArray[Any]]) -> QuantizedTensor:
    """Return one tensor; what it takes from `arrays` is taken out."""
    if not isinstance(entry, dict):
        raise FormatError(f"its entry must be an object, not {entry!r}")
    for key in ("format", "shape", "axis"):
        if key not in entry:
            raise FormatError(f"its entry has no {key!r}")
    shape, axis, fmt = entry["shape"], entry["axis"], format_named(str(entry["format"]))
    if not isinstance(shape, list) or not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise FormatError(f"shape must be a list of positive integers, not {shape!r}")
    if not isinstance(axis, int) or not 0 <= axis < len(shape):
        raise FormatError(f"axis must be between 0 and {len(shape) - 1}, not {axis!r}")

    def part(suffix: str) -> npt.NDArray[Any]:
        if f"{name}.{suffix}" not in arrays:
            raise FormatError(f"the file has no {name}.{suffix}")
        return arrays.pop(f"{name}.{suffix}")

    return QuantizedTensor(format=fmt, shape=tuple(shape), axis=axis, payload=part("payload"),
                           side={side: part(side) for side in fmt.side})
