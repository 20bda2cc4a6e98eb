"""Folders that are made once: under a key, whole or not at all, by one process at a time."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

__all__ = ["cache_root", "cached_folder", "key_of", "repository"]


def repository() -> Path:
    """Return the folder that holds `hw`, `sw` and `flows`."""
    return Path(__file__).resolve().parents[1]


def cache_root() -> Path:
    """Return where builds are kept: $HEDDLE_CACHE, else `build` in a checkout, else the user's cache folder."""
    if chosen := os.environ.get("HEDDLE_CACHE"):
        folder = Path(chosen).resolve()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"HEDDLE_CACHE must be a folder, not the file {chosen!r}")
        return folder
    if (repository() / "pyproject.toml").exists():
        return repository() / "build"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heddle"


def key_of(*parts: Any) -> str:
    """Return 16 hexadecimal digits that stand for `parts`: text, bytes, or what JSON can write."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        elif not isinstance(part, bytes):
            part = json.dumps(part, sort_keys=True).encode()
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()[:16]


def cached_folder(name: str, fill: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder called `name` of the cache and whether this call had to make it.

    Parameters
    ----------
    name : str
        States kind and key; whatever the contents depend on must be in the key.
    fill : function of a folder
        Writes the contents into an empty folder, which gets its name only when `fill` has returned. So a
        folder that exists is complete, and a build that is interrupted or fails leaves nothing behind.
    """
    root = cache_root()
    folder = root / name
    if folder.exists():
        return folder, False
    (root / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(root / "locks" / f"{name}.lock"):
        if folder.exists():
            return folder, False
        for abandoned in root.glob(f".{name}.*"):      # of a process that was killed; ours is the only one with the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        try:
            fill(work)
            work.chmod(0o755)
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return folder, True
