"""Two processes and one campaign's folder: the second is refused and told who has it; what a dead one had is free."""

import os
import subprocess
import sys

import pytest

from flows.fault.campaign.lock import LockError, lock_folder

HOLDER = """
import sys, time
from pathlib import Path
from flows.fault.campaign.lock import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_has_it(tmp_path, holder):
    with pytest.raises(LockError, match=rf"^a campaign's folder must have one process that works in it, not also this one: "
                                        rf"process {holder.pid} is at work in '{tmp_path}'$"):
        lock_folder(tmp_path)
    (tmp_path / "campaign.pid").write_text("")          # it has not come to say so yet
    with pytest.raises(LockError, match=r": another process is at work in "):
        lock_folder(tmp_path)


def test_a_dead_process_has_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock = lock_folder(tmp_path)
    assert (tmp_path / "campaign.pid").read_text() == f"{os.getpid()}\n"
    with pytest.raises(LockError, match=rf": process {os.getpid()} is at work in "):
        lock_folder(tmp_path)
    lock.release()
    lock_folder(tmp_path).release()
