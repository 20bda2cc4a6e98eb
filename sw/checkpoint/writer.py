"""Writes a safetensors file tensor by tensor, in one pass, whole or not at all."""

import contextlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from sw.checkpoint.stored import DTYPES, CheckpointError
from sw.checkpoint.swap import beside
from sw.formats.files import RESERVED

__all__ = ["CheckpointWriter"]

_LARGEST = 1 << 62
_LONGEST = "F8_E4M3"
_DTYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class CheckpointWriter:
    """A safetensors file that grows tensor by tensor.

    The bytes go to a file beside the target, behind room for the header, which is written last; then the file gets its name. So
    nothing is held in memory or copied, and a file with the target's name is complete.

    Parameters
    ----------
    path : Path
        The target; replaced if it exists.
    entries : mapping of str to int
        Every tensor that will be written → how many axes it has at most.
    metadata : mapping of str to str
        The file's own.

    Raises
    ------
    CheckpointError
        If a tensor has the name that safetensors keeps for itself.
    """

    def __init__(self, path: Path, entries: Mapping[str, int], metadata: Mapping[str, str]):
        if RESERVED in entries:
            raise CheckpointError(f"a tensor must not be called {RESERVED}, which safetensors keeps for itself")
        self._path = path
        self._metadata = dict(metadata)
        self._planned = dict(entries)
        self._entries: dict[str, dict[str, Any]] = {}
        self._room = -(-len(self._header({name: self._entry(_LONGEST, (_LARGEST,) * axes, _LARGEST, _LARGEST)
                                          for name, axes in entries.items()})) // 8) * 8
        self._work = beside(path)
        self._file = self._work.open("xb", buffering=1 << 20)
        self._size = 0
        self._file.write(b"\0" * (8 + self._room))

    @staticmethod
    def _entry(dtype: str, shape: tuple[int, ...], start: int, stop: int) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}

    def _header(self, entries: Mapping[str, Any]) -> bytes:
        metadata = {"__metadata__": self._metadata} if self._metadata else {}
        return json.dumps({**metadata, **entries}, separators=(",", ":")).encode()

    def append(self, name: str, array: npt.NDArray[Any]) -> None:
        """Append rows to a tensor: (rows, ...) after the rows of the same name that were appended just before.

        Raises
        ------
        CheckpointError
            If the tensor was not planned, the rows have other columns or another type, or another tensor came in between.
        """
        dtype = _DTYPES[array.dtype]
        if name not in self._entries:
            self.copy(name, dtype, array.shape, [np.ascontiguousarray(array)])
            return
        entry = self._entries[name]
        if entry["data_offsets"][1] != self._size or entry["shape"][1:] != list(array.shape[1:]) or entry["dtype"] != dtype:
            raise CheckpointError(f"rows must follow the rows of {name!r} in their shape {tuple(entry['shape'])} and type")
        self._write(np.ascontiguousarray(array))
        entry["shape"][0] += len(array)
        entry["data_offsets"][1] = self._size

    def copy(self, name: str, dtype: str, shape: tuple[int, ...], pieces: Iterable[Any]) -> None:
        """Write a tensor whose bytes come in pieces, `dtype` as safetensors calls it.

        Raises
        ------
        CheckpointError
            If it was not planned, or with fewer axes, or is there already.
        """
        if len(shape) > self._planned.get(name, -1) or name in self._entries:
            raise CheckpointError(f"a tensor must be written once, as it was planned, not {name!r} of shape {tuple(shape)}")
        start = self._size
        for piece in pieces:
            self._write(piece)
        self._entries[name] = self._entry(dtype, shape, start, self._size)

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Say in an error which file it was: an OSError of a write does not."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def _write(self, data: Any) -> None:
        with self._naming_the_file():
            self._size += self._file.write(data.tobytes() if isinstance(data, np.ndarray) else data)

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the file, or remove it if something was raised."""
        try:
            if error is None:
                self._finish()
        finally:
            with contextlib.suppress(OSError):      # what a full disk does not take is thrown away anyway
                self._file.close()
            self._work.unlink(missing_ok=True)      # finished, it has its own name

    def _finish(self) -> None:
        if missing := self._planned.keys() - self._entries.keys():
            raise CheckpointError(f"every planned tensor must be written; {sorted(missing)[0]!r} was not")
        header = self._header(self._entries).ljust(self._room)
        with self._naming_the_file():
            self._file.seek(0)
            self._file.write(struct.pack("<Q", self._room) + header)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._work.replace(self._path)
