"""A folder that is replaced in one step, and what killed processes have left beside it."""

import contextlib
import os
import re
import shutil
from pathlib import Path

__all__ = ["beside", "remove_leftovers", "swap_folder"]

_OLD = ".old"


def beside(out: Path) -> Path:
    """Return where this process works on `out`: hidden, in the same folder, named by the process."""
    return out.with_name(f".{out.name}.{os.getpid()}")


def swap_folder(work: Path, out: Path) -> None:
    """Put the folder `work` in place of the folder `out`; what only `out` has moves into it.

    Two renames, so that `out` is never a mixture of both. If this process is killed between them, or before everything has moved,
    `remove_leftovers` brings the rest back.
    """
    old = work.with_name(work.name + _OLD)
    shutil.copymode(out, work)
    out.rename(old)
    try:
        work.rename(out)
    except OSError:
        old.rename(out)
        raise
    _join(old, out)


def remove_leftovers(out: Path) -> None:
    """Remove what processes that are gone have left of `out`, and bring back what they had moved away of it.

    A process counts as gone if this machine has none of its number, or the number is that of this process.
    """
    for folder in {out.parent, out.resolve().parent}:
        name = (out if folder == out.parent else out.resolve()).name
        pattern = re.compile(rf"\.{re.escape(name)}\.(\d+)({re.escape(_OLD)})?")
        for path in sorted(folder.iterdir()) if name and os.access(folder, os.R_OK) else ():
            found = pattern.fullmatch(path.name)
            if not found or _is_alive(int(found[1])):
                continue
            if found[2]:
                _restore(path, folder / name)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _restore(old: Path, out: Path) -> None:
    if out.exists():
        _join(old, out)
    else:
        old.rename(out)


def _join(old: Path, new: Path) -> None:
    """Move what `new` does not have from the folder `old` there, and remove the rest."""
    _move(old, new)
    shutil.rmtree(old, ignore_errors=True)


def _move(old: Path, new: Path) -> None:
    for path in old.iterdir():
        target = new / path.name
        if not os.path.lexists(target):
            path.rename(target)
        elif path.is_dir() and target.is_dir() and not path.is_symlink():
            _move(path, target)


def _is_alive(process: int) -> bool:
    """Return whether another process of this machine has this number."""
    if process == os.getpid():
        return False
    with contextlib.suppress(ProcessLookupError, OverflowError):
        try:
            os.kill(process, 0)
        except PermissionError:
            pass                # it is another user's
        return process > 0
    return False
