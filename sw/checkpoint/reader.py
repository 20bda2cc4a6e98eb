"""Checkpoints as lists of tensors: a safetensors file, a folder as Hugging Face lays it out, or a GGUF file."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sw.checkpoint.stored import CheckpointError, StoredTensor

__all__ = ["open_checkpoint", "safetensors_file"]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def open_checkpoint(path: Path) -> Sequence[StoredTensor]:
    """Return the tensors of a checkpoint, in the order of its files; no weight is read.

    Parameters
    ----------
    path : Path
        A .safetensors file; a folder with model.safetensors or model.safetensors.index.json; or a .gguf file.

    Raises
    ------
    CheckpointError
        If it is none of these or not whole.
    """
    if not path.exists():
        raise CheckpointError(f"MODEL must be a safetensors file, a folder with one, or a GGUF file; there is no {str(path)!r}")
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise CheckpointError(f"MODEL must be a safetensors file, a folder with one, or a GGUF file, not the device or pipe "
                              f"{str(path)!r}")
    with path.open("rb") as file:
        magic = file.read(4)
    if path.suffix == ".gguf" or magic == b"GGUF":
        from sw.gguf import gguf_file

        return gguf_file(path)
    return safetensors_file(path)


def _folder(path: Path) -> list[StoredTensor]:
    if (path / _SINGLE).is_file():
        return safetensors_file(path / _SINGLE)
    index = path / _INDEX
    if not index.is_file():
        raise CheckpointError(f"{path} must hold {_SINGLE} or {_INDEX}")
    try:
        where = dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} must map tensors to files in 'weight_map': {error!r}") from None
    if odd := [name for name in where.values() if not isinstance(name, str)]:
        raise CheckpointError(f"{index} must map tensors to files in 'weight_map', not to {odd[0]!r}")
    tensors: dict[str, StoredTensor] = {}
    for name in dict.fromkeys(where.values()):
        if not (path / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which must lie beside it")
        tensors |= {tensor.name: tensor for tensor in safetensors_file(path / name)}
    if missing := [name for name in where if name not in tensors]:
        raise CheckpointError(f"the files that {index} names must hold {missing[0]!r}")
    return [tensors[name] for name in where]


def safetensors_file(path: Path) -> list[StoredTensor]:
    """Return the tensors of one safetensors file, in the order of their bytes.

    Raises
    ------
    CheckpointError
        If it is not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="numpy"):     # checks that the header is whole and covers the file
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path} must be a whole safetensors file: {error}") from None
    with path.open("rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    # Read by offset, not through a mapping of the file: pages of a mapping count as memory of the process.
    tensors = [StoredTensor(name=name, shape=tuple(entry["shape"]), dtype=entry["dtype"], file=path,
                            offset=8 + length + entry["data_offsets"][0],
                            nbytes=entry["data_offsets"][1] - entry["data_offsets"][0])
               for name, entry in header.items()]
    return sorted(tensors, key=lambda tensor: tensor.offset)
