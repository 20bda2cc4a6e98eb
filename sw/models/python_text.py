"""Text that models are trained and evaluated on: the sources of Python's own standard library, some held out.

The rule (one for training and evaluation): every .py file below the folder of the standard library but those below `SKIPPED`, in
order of their paths; files that are empty or hold a zero byte are left out; a file is held out if the CRC-32 of its path is a
multiple of `ONE_IN`. So a file stays on its side in every version of Python. Standard library only, so that a training script
needs nothing of ours besides.
"""

import sysconfig
import zlib
from pathlib import Path

__all__ = ["ONE_IN", "SKIPPED", "documents", "texts"]

SKIPPED = frozenset({
    "test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "ensurepip", "lib2to3", "pydoc_data",
})
"""Names of folders whose files are not read: tests, other people's packages, generated text."""

ONE_IN = 20
"""One file of so many is held out."""


def documents(root: Path | None = None) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files for training and the held-out ones: path below the library's folder → text.

    Parameters
    ----------
    root : Path or None
        Folder of the library; None: that of the Python that runs this.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    parts: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
    for file in sorted(file for file in root.rglob("*.py") if not SKIPPED & set(file.relative_to(root).parts)):
        name = file.relative_to(root).as_posix()
        text = file.read_bytes()
        if text and b"\0" not in text:
            parts[zlib.crc32(name.encode()) % ONE_IN == 0][name] = text
    return parts


def texts(root: Path | None = None) -> tuple[bytes, bytes]:
    """Return training and held-out text: a zero byte before every file."""
    train, held_out = (b"".join(b"\0" + text for text in part.values()) for part in documents(root))
    return train, held_out
