"""Where a campaign keeps its results: one row a fault in Parquet, whole files or none, and what it was a campaign of."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.lock import lock_folder
from flows.fault.campaign.results import RESULT
from flows.toolchain import missing_tool

__all__ = ["Store", "StoreError", "parquet_library", "write_whole"]

CAMPAIGN, FAULTS = "campaign.json", "faults"
_ROWS = 1 << 18
_PARTS = ("target", "design", "plan", "population")


class StoreError(ValueError):
    """A folder that cannot take this campaign; the text says why."""


def write_whole(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    half_done = file.with_name(f"{file.name}.part")
    half_done.write_text(text)
    os.replace(half_done, file)


def parquet_library() -> Any:
    """Return pyarrow's module for Parquet.

    Raises
    ------
    ToolError
        If pyarrow is missing.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_tool("pyarrow", "it keeps a row for each fault", "pip install 'heddle[fault]'") from None
    return parquet


class Store:
    """The folder of one campaign, which belongs to this process until `close`; also a context manager.

    ``campaign.json`` says what it is a campaign of, ``faults/*.parquet`` have the rows (`RESULT`). A file gets its name when it
    is complete, so that an interrupted campaign loses at most the rows that `flush` was not called for.

    Parameters
    ----------
    folder : Path
        Made if missing.
    identity : dict
        JSON types under the keys target, design, plan and population; a campaign goes on only where all are equal.
    resume : bool
        Whether there may be a campaign already.
    replace : bool
        Whether a campaign that there is may be forgotten.

    Attributes
    ----------
    rows : (n,) RESULT
        Those of earlier runs, in order of index.

    Raises
    ------
    StoreError
        If the folder holds another campaign, or one although it is not to be resumed, or none although it is.
    LockError
        If another process has the folder.
    ToolError
        If pyarrow is missing.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, resume: bool = False, replace: bool = False):
        self._parquet = parquet_library()
        self.folder = folder
        self._waiting: list[npt.NDArray[Any]] = []
        self._count = 0
        self.rows = np.zeros(0, RESULT)
        there = folder / CAMPAIGN
        identity = json.loads(json.dumps(identity))
        if resume and not there.exists():       # before a folder is made for it
            raise StoreError(f"--resume needs a folder with a campaign, not {str(folder)!r}")
        (folder / FAULTS).mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            self._open(there, identity, resume=resume, replace=replace)
        except BaseException:
            self.close()
            raise

    def _open(self, there: Path, identity: dict[str, Any], *, resume: bool, replace: bool) -> None:
        faults = self.folder / FAULTS
        if resume:
            self._check(there, identity)
            self.rows = self._read()
        elif there.exists() and not replace:
            raise StoreError(f"-o must be a folder without a campaign, not {str(self.folder)!r}: add --resume to go on with that "
                             "one")
        elif there.exists():
            for file in faults.glob("*.parquet"):
                file.unlink()
        for half_done in faults.glob("*.part"):
            half_done.unlink()
        if not resume:
            self.write_json(CAMPAIGN, identity)

    def __enter__(self) -> "Store":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let other processes into the folder; what `flush` was not called for is lost."""
        self._lock.release()

    def _check(self, there: Path, identity: dict[str, Any]) -> None:
        try:
            before = json.loads(there.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"--resume needs a readable {CAMPAIGN}, not {str(there)!r}: {error}") from None
        if not isinstance(before, dict):
            raise StoreError(f"--resume needs a readable {CAMPAIGN}, not {str(there)!r}: it must hold an object, not {before!r}")
        for part in _PARTS:
            if before.get(part) != identity.get(part):
                was, now = (json.dumps(side.get(part), sort_keys=True) for side in (before, identity))
                raise StoreError(f"--resume must go on with the campaign in {str(self.folder)!r}, but its {part} has changed "
                                 f"from {_short(was)} to {_short(now)}: start another one in another folder")

    def _read(self) -> npt.NDArray[Any]:
        files = sorted((self.folder / FAULTS).glob("*.parquet"))
        parts = []
        for file in files:
            try:
                table = self._parquet.read_table(file)
                part = np.zeros(len(table), RESULT)
                for name in RESULT.names or ():
                    if table[name].null_count:
                        raise ValueError(f"{name} is missing in some rows")
                    part[name] = table[name].to_numpy()
            except (OSError, ValueError, KeyError) as error:        # pyarrow's own errors are these
                raise StoreError(f"rows must be Parquet as this program writes it, not {str(file)!r}: {error}") from None
            parts.append(part)
        rows = np.concatenate(parts) if parts else np.zeros(0, RESULT)
        _, first = np.unique(rows["index"], return_index=True)
        return rows[first]

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Take rows; they are written when there are many."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if not self._count:
            return
        import pyarrow

        rows = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        name = f"{int(rows['index'].min()):016x}-{int(rows['index'].max()):016x}-{len(rows)}"
        half_done = self.folder / FAULTS / f"{name}.part"
        self._parquet.write_table(pyarrow.table({column: np.ascontiguousarray(rows[column]) for column in RESULT.names or ()}),
                                  half_done, compression="zstd")
        os.replace(half_done, self.folder / FAULTS / f"{name}.parquet")

    def write_json(self, name: str, content: dict[str, Any]) -> Path:
        """Write a JSON file, whole or not at all."""
        return self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file, whole or not at all."""
        write_whole(self.folder / name, text)
        return self.folder / name


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
