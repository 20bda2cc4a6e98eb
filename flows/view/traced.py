"""A device that keeps the timeline of every run."""

from collections.abc import Callable, Mapping
from typing import Any

from flows.native_sim import MemoryTiming
from flows.rtl_device import RtlDevice, RtlSession
from flows.view.timeline import Timeline, timeline_of
from hw.config import AcceleratorConfig
from sw.device import Result
from sw.program import Program

__all__ = ["TracedDevice", "TracedSession"]


class TracedSession(RtlSession):
    """A session that traces each run.

    Attributes
    ----------
    timelines : list of Timeline
        Of its runs, in order.
    """

    def __init__(self, *args: Any):
        self.timelines: list[Timeline] = []
        super().__init__(*args)

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` and keep its timeline; see `RtlSession.run`."""
        self.sim.trace()
        result = super().run(program, args)
        self.timelines.append(timeline_of(self.sim.traced(), program, args or {}))
        return result


class TracedDevice(RtlDevice):
    """The RTL of one config, built for tracing.

    Parameters
    ----------
    config, timing, progress
        As of `flows.rtl_device.RtlDevice`.

    Attributes
    ----------
    timelines : list of Timeline
        Of all runs of all its sessions, in order.
    """

    session_type: type[RtlSession] = TracedSession

    def __init__(self, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
                 progress: Callable[[int], None] | None = None):
        super().__init__(config, timing=timing, progress=progress, trace=True)
        self.timelines: list[Timeline] = []

    def open(self, memory_bytes: int) -> RtlSession:
        """Return a new session; see `RtlDevice.open`."""
        session = super().open(memory_bytes)
        assert isinstance(session, TracedSession)
        session.timelines = self.timelines
        return session
