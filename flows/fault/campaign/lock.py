"""One process at a time in the folder of a campaign."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["LockError", "lock_folder"]

_LOCK, _HOLDER = "campaign.lock", "campaign.pid"


class LockError(ValueError):
    """A folder that another process works in; the text names the process."""


def lock_folder(folder: Path) -> FileLock:
    """Return the lock of a campaign's folder, taken; `release()` gives it back.

    The operating system holds it for the process, so that of a dead one, however it died, is free. Who has it is written beside
    it, for people.

    Raises
    ------
    LockError
        If another process, or another campaign of this one, has it.
    """
    lock, holder = FileLock(folder / _LOCK), folder / _HOLDER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = f"process {int(holder.read_text())}"
        except (OSError, ValueError):       # in the moment between taking the lock and saying so
            who = "another process"
        raise LockError(f"a campaign's folder must have one process that works in it, not also this one: {who} is at work in "
                        f"{str(folder)!r}") from None
    holder.write_text(f"{os.getpid()}\n")
    return lock
