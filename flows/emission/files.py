"""The files of an emission: manifest.json lists them, so that the next one in the same folder removes what it has not."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "add_files", "digests", "remove_stale"]

MANIFEST = "manifest.json"


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return name → SHA-256 of files, in alphabetical order."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}


def _manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder's manifest says; nothing if there is none of ours."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def add_files(folder: Path, names: Iterable[str]) -> None:
    """Enter further files into the manifest of `folder`, if it has one, in one step."""
    manifest = _manifest(folder)
    if not manifest:
        return
    manifest["files"] = dict(sorted({**manifest["files"], **digests(folder, names)}.items()))
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".emit.", delete=False) as file:
        file.write(json.dumps(manifest, indent=2) + "\n")
    os.chmod(file.name, (folder / MANIFEST).stat().st_mode)
    os.replace(file.name, folder / MANIFEST)


def remove_stale(folder: Path, wanted: Iterable[str]) -> tuple[str, ...]:
    """Remove the files of the emission whose manifest is in `folder`, but for those in `wanted`.

    A file that was changed since is its owner's: it stays. So does whatever the manifest does not list.

    Parameters
    ----------
    folder : Path
    wanted : iterable of str
        Names that are written next.

    Returns
    -------
    tuple of str
        Names of listed files that stay because they were changed.
    """
    kept, wanted = [], {MANIFEST, *wanted}
    for name, digest in _manifest(folder).get("files", {}).items():
        file = folder / name
        if name in wanted or Path(name).name != name or file.is_symlink() or not file.is_file():
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            file.unlink()
        else:
            kept.append(name)
    return tuple(kept)
