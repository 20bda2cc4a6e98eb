"""Cycles by kernel from looks at the program counter; a session that the golden device repeats."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flows.checked import CheckedSession
from flows.profile import SAMPLE_CYCLES, ProfiledDevice
from hw.presets import PRESETS
from sw.assembler import assemble
from sw.device import DeviceError
from sw.golden.device import GoldenDevice, GoldenSession
from sw.program import Program, Region
from sw.replay import load_case, replay

CONFIG = PRESETS["systolic-4x4"]
MEMORY = 1 << 14
LOADS = """\
set load.rows, 64
set load.row_bytes, 16
set load.dram_stride, 16
set load.stride, 16
set r1, {count}
loop r1
load
end
fence
"""
"""A kernel of `count` loads of 64 beats, one after the other."""
STORE = """\
set store.rows, 1
set store.row_bytes, 16
set store.dram_addr, 4096
set store.addr, {addr}
store
halt
"""


def program(*counts, addr=0):
    """Return kernels of so many loads each, and one that stores a row."""
    parts = [assemble(LOADS.format(count=count)) for count in counts] + [assemble(STORE.format(addr=addr))]
    firsts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    names = [*(f"{count} loads" for count in counts), "store"]
    return Program(name="probe", config_digest=CONFIG.digest(), code=np.concatenate(parts), code_addr=8192,
                   regions=(Region(name="out", addr=4096, size=64, role="output"),),
                   kernels=tuple(zip(firsts.tolist(), names, strict=True)))


@pytest.fixture(scope="module")
def device():
    return ProfiledDevice(CONFIG)


def test_cycles_of_each_kernel(device):
    session = device.open(MEMORY)
    result = session.run(program(200, 100, 50))
    assert sum(session.kernels.values()) == result.cycles == result.counters["cycles"]
    assert list(session.kernels)[:3] == ["200 loads", "100 loads", "50 loads"]      # the store is shorter than a sample
    for count in (200, 100, 50):        # a beat a cycle, and some cycles from command to command
        assert 64 * count - SAMPLE_CYCLES < session.kernels[f"{count} loads"] < 80 * count + SAMPLE_CYCLES
    assert session.run(program(3)).cycles == sum(session.kernels.values())
    assert session.kernels.keys() <= {"3 loads", "store"}
    session.close()


def test_looking_changes_nothing(device):
    profiled, plain = device.open(MEMORY), super(ProfiledDevice, device).open(MEMORY)
    plain._advance = plain.sim.run
    assert profiled.run(program(50, 20)).counters == plain.run(program(50, 20)).counters
    profiled.close()
    plain.close()


class Wrong(GoldenSession):
    """A golden session that gets a byte wrong in its second run."""

    runs = 0

    def run(self, program, args=None):
        result = super().run(program, args)
        self.runs += 1
        if self.runs == 2:
            self.memory[4100] ^= 1
        return result


@pytest.fixture
def checked(monkeypatch, tmp_path):
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        yield lambda session: CheckedSession(session, GoldenDevice(CONFIG), pool, {"latency": 9})


def test_every_run_is_compared(checked):
    session = checked(Wrong(CONFIG, MEMORY))
    session.memory[:64] = np.arange(64)
    first = program(1, addr=16)
    assert (session.run(first).outputs["out"][:16] == np.arange(16, 32)).all()
    assert (session.match, session.replay) == (True, None)
    session.memory[:64] = np.arange(64)[::-1]           # what the host writes goes to both
    session.run(first)
    assert session.match is False
    case = load_case(session.replay)
    assert (case.config, case.timing, case.args) == (CONFIG, {"latency": 9}, {})
    assert (case.memory[:64] == np.arange(64)[::-1]).all()
    assert replay(case).memory[4100] == 63 - 20
    kept = session.replay
    session.run(first)                                  # the same from where it stands: still one run that differed
    assert (session.match, session.replay) == (False, kept)
    session.close()


def test_an_error_says_how_to_see_it_again(checked):
    session = checked(GoldenSession(CONFIG, MEMORY))
    with pytest.raises(DeviceError, match="SCRATCHPAD") as error:
        session.run(program(1, addr=1 << 20))
    (note,) = error.value.__notes__
    path = note.removeprefix("see: heddle replay ")
    assert replay(load_case(path)).error.cause == error.value.cause
