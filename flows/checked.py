"""A session of a device whose every run the golden device repeats at the same time, all of memory compared."""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from flows.measure import save_replay
from flows.native_sim import BusError
from sw.device import DeviceError, Result, Session
from sw.golden.device import GoldenDevice
from sw.program import Program
from sw.replay import ReplayCase

__all__ = ["CheckedSession"]

_SWITCH_SECONDS = 2e-4      # the simulator, which leaves Python for some milliseconds at a time, must come back in at once


class CheckedSession:
    """Implements `sw.device.Session`; runs go to both devices, results come from the device that is checked.

    Parameters
    ----------
    session : Session
        What is checked.
    golden : GoldenDevice
    pool : Executor
        Runs the golden device meanwhile.
    timing : dict of str to float
        How the checked device's memory behaves, for replay cases.

    Attributes
    ----------
    match : bool
        Whether all of memory was equal after every run so far.
    replay : str or None
        Where the first run that differed was saved.
    """

    def __init__(self, session: Session, golden: GoldenDevice, pool: Executor, timing: Mapping[str, float]):
        self._session, self._pool, self._timing = session, pool, dict(timing)
        self._config = golden.config
        self._golden = golden.open(len(session.memory))
        self.match = True
        self.replay: str | None = None

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """The checked device's DRAM, flat uint8, writable in place."""
        return self._session.memory

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` on both devices from the same memory; see `sw.device.Session.run`."""
        case = ReplayCase(config=self._config, program=program, args=program.from_any_state(args), memory=self.memory.copy(),
                          note=program.name, timing=self._timing)
        self._golden.memory[:] = case.memory
        with _quick_switches():
            expected = self._pool.submit(self._golden.run, program, args)
            try:
                result = self._session.run(program, args)
            except (DeviceError, BusError) as error:
                error.add_note(f"see: heddle replay {save_replay(case)}")
                raise
            finally:
                expected.exception()        # waits
        expected.result()
        if not np.array_equal(self.memory, self._golden.memory):
            self.match = False
            self.replay = self.replay or save_replay(case)
        return result

    def close(self) -> None:
        """Close both sessions."""
        self._session.close()
        self._golden.close()


@contextmanager
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
