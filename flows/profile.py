"""An RTL device that tells how long each kernel of a program takes, by looking at the program counter now and then."""

from collections.abc import Mapping
from typing import Any

from flows.rtl_device import RtlDevice, RtlSession
from sw.device import Result
from sw.program import Program

__all__ = ["SAMPLE_CYCLES", "ProfiledDevice", "ProfiledSession"]

SAMPLE_CYCLES = 256
"""Cycles from one look at the program counter to the next, besides the look itself (an AXI4-Lite read, some ten cycles)."""


class ProfiledSession(RtlSession):
    """A session that samples.

    The sequencer runs ahead of the units, but not over a fence: where fences divide a program's kernels, a kernel's cycles are
    right within a sample at either end.

    Attributes
    ----------
    kernels : dict of str to int
        Cycles of each kernel in the last run, in order of first appearance; their sum is the run's.
    """

    def __init__(self, *args: Any):
        self.kernels: dict[str, int] = {}
        self._samples: list[tuple[int, int]] = []
        super().__init__(*args)

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` and keep what its kernels took; see `RtlSession.run`."""
        self._samples = []
        result = super().run(program, args)
        self.kernels = _cycles_of(program, self._samples, result.cycles)
        return result

    def _wait(self, program: Program) -> None:
        self._samples.append((self.sim.cycle, 0))
        super()._wait(program)

    def _advance(self, cycles: int) -> bool:
        end = self.sim.cycle + cycles
        while (left := end - self.sim.cycle) > 0:
            if super()._advance(min(SAMPLE_CYCLES, left)):
                return True
            pc = self.registers.read("PC")
            self._samples.append((self.sim.cycle, pc))
        return False


def _cycles_of(program: Program, samples: list[tuple[int, int]], cycles: int) -> dict[str, int]:
    """Return cycles by kernel: those before a sample are of the kernel it finds, those after the last one too."""
    found: dict[str, int] = {}
    kernel = program.kernel_at(0)
    start = before = samples[0][0]
    for now, pc in samples[1:]:
        kernel = program.kernel_at(pc)
        found[kernel] = found.get(kernel, 0) + now - before
        before = now
    found[kernel] = found.get(kernel, 0) + cycles - (before - start)
    return found


class ProfiledDevice(RtlDevice):
    """The RTL of one config, whose sessions sample; see `flows.rtl_device.RtlDevice`."""

    session_type: type[RtlSession] = ProfiledSession

    def open(self, memory_bytes: int) -> ProfiledSession:
        """Return a new session; see `RtlDevice.open`."""
        session = super().open(memory_bytes)
        assert isinstance(session, ProfiledSession)
        return session
