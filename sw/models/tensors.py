"""The tensors of a model's checkpoint: each one's name, shape and type checked before any is read."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from sw.checkpoint import CheckpointError, StoredTensor, open_checkpoint
from sw.checkpoint.matrix import StoredMatrix
from sw.formats import QuantizedTensor, dequantize, load
from sw.program import METADATA_KEY

__all__ = ["ModelTensors"]

Array = npt.NDArray[np.float32]
_DTYPES = ("F32", "F16", "BF16", "float32", "float16", "bfloat16")     # as safetensors and as numpy call them


class ModelTensors:
    """Weights in a folder, as floats or as `heddle quantize` writes them.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors, or model.safetensors.index.json and its shards.
    expected : mapping of str to tuple of int
        Every tensor that must be there → its shape.
    unused : sequence of str
        Patterns of names that may be there and are of no use.

    Attributes
    ----------
    stored : dict of str to StoredTensor, QuantizedTensor or ndarray
        By name, as they are stored.
    quantized : dict of str to QuantizedTensor
        Of a quantized checkpoint, by name; else empty.

    Raises
    ------
    CheckpointError
        If the files are not whole, or a tensor is missing, of another shape or type, or none of the model's; the text names it.
    """

    def __init__(self, folder: Path, expected: Mapping[str, tuple[int, ...]], unused: Sequence[str] = ()):
        self.folder, self._expected = folder, dict(expected)
        self.stored: dict[str, StoredTensor | QuantizedTensor | npt.NDArray[Any]] = _tensors(folder)
        self.quantized = {name: tensor for name, tensor in self.stored.items() if isinstance(tensor, QuantizedTensor)}
        for name, shape in expected.items():
            if name not in self.stored:
                raise CheckpointError(f"{folder} must hold {name} of shape {shape}, but has no such tensor")
            tensor = self.stored[name]
            if tuple(tensor.shape) != shape:
                raise CheckpointError(f"{name} must be of shape {shape} by {folder / 'config.json'}, not {tuple(tensor.shape)}")
            if not isinstance(tensor, QuantizedTensor) and str(tensor.dtype) not in _DTYPES:
                raise CheckpointError(f"{name} of shape {shape} must be float32, float16, bfloat16 or quantized by "
                                      f"`heddle quantize`, not {tensor.dtype}")
        for name in sorted(self.stored.keys() - expected.keys()):
            if not any(fnmatchcase(name, pattern) for pattern in unused):
                raise CheckpointError(f"{folder} must hold tensors of its config.json only, not {name} of shape "
                                      f"{tuple(self.stored[name].shape)}")

    def check_values(self, progress: Callable[[int], None] = lambda values: None) -> None:
        """Read every weight once, some rows at a time.

        `progress` is called with how many more have been read.

        Raises
        ------
        CheckpointError
            If one is not a finite number; the text names tensor, row and column.
        """
        for name in self._expected:
            tensor = self.stored[name]
            if isinstance(tensor, StoredTensor):
                for _, rows in StoredMatrix(tensor, len(tensor.shape) - 1).chunks():
                    progress(rows.size)
                continue
            values = _values(tensor)
            if not np.isfinite(values).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                raise CheckpointError(f"weights must be finite float32, not {values[at]}: {name} at {at}")
            progress(values.size)

    def tensor(self, name: str) -> Array:
        """Return one tensor by its name, float32."""
        return _values(self.stored[name])

    @property
    def parameters(self) -> int:
        """Weights, norms and embedding included."""
        return sum(map(math.prod, self._expected.values()))


def _tensors(folder: Path) -> dict[str, Any]:
    """Return the tensors of a folder by name: where they lie, or quantized as `heddle quantize` wrote them."""
    stored = open_checkpoint(folder)
    for file in sorted({tensor.file for tensor in stored}):
        with safe_open(file, framework="numpy") as opened:
            header = json.loads((opened.metadata() or {}).get(METADATA_KEY, "null"))
        if header is not None:
            return dict(load(file))
    return {tensor.name: tensor for tensor in stored}


def _values(tensor: StoredTensor | QuantizedTensor | npt.NDArray[Any]) -> Array:
    """Return all values, float32 of the tensor's shape."""
    if isinstance(tensor, QuantizedTensor):
        return dequantize(tensor)
    values = tensor.values(0, tensor.rows) if isinstance(tensor, StoredTensor) else tensor
    return np.ascontiguousarray(values, np.float32).reshape(tensor.shape)
