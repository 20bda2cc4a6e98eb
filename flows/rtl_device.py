"""The accelerator's RTL as a device: emitted Verilog in the native simulator, behind the protocol of the golden device."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.build import NativeBuild, build_native
from flows.emit import Emission, emit
from flows.native_sim import MemoryTiming, NativeSim
from flows.session import HOST_PATIENCE, RegisterSession
from hw.config import AcceleratorConfig
from sw.device import Result
from sw.program import Program

__all__ = ["WATCHDOG_CYCLES", "RtlDevice", "RtlSession"]

WATCHDOG_CYCLES = 1_000_000
"""Cycles without progress after which a run counts as hung; a command at work makes progress however long it takes."""
_CHUNK = 100_000


class RtlSession(RegisterSession):
    """One instance of the simulated accelerator and its memory.

    Attributes
    ----------
    sim : NativeSim
        The simulation: its write log, injected bus errors, waves, snapshots.
    registers : Registers
    run_cycles, run_seconds : int, float
        Simulated cycles, and time that simulating them took, summed over the runs.
    """

    def __init__(self, config: AcceleratorConfig, sim: NativeSim, watchdog: int, progress: Callable[[int], None] | None = None):
        self.sim = sim
        self.run_cycles, self.run_seconds = 0, 0.0
        self._progress = progress
        super().__init__(config, sim, watchdog)

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM, flat uint8, writable in place."""
        return self.sim.memory

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` to its HALT; see `RegisterSession.run`."""
        return super().run(program, args)

    def close(self) -> None:
        """Free the simulation."""
        self.sim.close()

    def _reset(self) -> None:
        self.sim.reset()

    def _execute(self, program: Program, arguments: Mapping[int, int]) -> dict[str, int]:
        started, before = time.perf_counter(), self.sim.cycle
        try:
            return super()._execute(program, arguments)
        finally:
            self.run_cycles += self.sim.cycle - before
            self.run_seconds += time.perf_counter() - started

    def _advance(self, cycles: int) -> bool:
        """Run until the interrupt is high, but at most `cycles` cycles; return whether it is."""
        return self.sim.run(cycles)

    def _wait(self, program: Program) -> None:
        """Run until the interrupt; raise DeviceHang when nothing happens any more and the hardware does not say so itself."""
        seen: tuple[int, ...] = ()
        since = start = self.sim.cycle
        while not self._advance(min(_CHUNK, self._watchdog)):
            now = self.sim.read_beats, self.sim.write_beats, *map(self.registers.read, ("INSTRUCTIONS_LO", "MACS_LO", "QUEUES"))
            if now != seen:
                seen, since = now, self.sim.cycle
            elif self.sim.cycle - since > HOST_PATIENCE * self._watchdog:
                self._give_up(program)
            if self._progress is not None:
                self._progress(self.sim.cycle - start)


class RtlDevice:
    """The RTL of one config; implements `sw.device.Device`. Emitted and built when it is first opened.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : MemoryTiming or None
        Behaviour of the memory; by default one beat a cycle, 32 cycles of latency, no stalls.
    waves : path or None
        File for the waves of the session opened first, .vcd or .fst.
    watchdog : int
        Cycles without progress that count as a hang, beyond what the memory's latency explains.
    progress : function of int, or None
        Called now and then with the cycles of the run so far.
    trace : bool
        Its sessions' `sim` can record what the units do (`NativeSim.trace`).

    Attributes
    ----------
    build_seconds : float
        What emission and build took when `build` was first asked for.
    """

    session_type: type[RtlSession] = RtlSession

    def __init__(self, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
                 waves: Path | str | None = None, watchdog: int = WATCHDOG_CYCLES, progress: Callable[[int], None] | None = None,
                 trace: bool = False):
        if not 1 <= watchdog < 1 << 31:
            raise ValueError(f"watchdog must be between 1 and {(1 << 31) - 1} cycles, not {watchdog!r}")
        self.config = config
        self.timing = timing or MemoryTiming()
        self._watchdog, self._progress = watchdog, progress
        self._trace = trace
        self._waves = None if waves is None else Path(waves)
        self._waves_suffix = self._waves.suffix if self._waves else None
        self.build_seconds = 0.0

    @cached_property
    def emission(self) -> Emission:
        """The Verilog."""
        return emit(self.config)

    @cached_property
    def build(self) -> NativeBuild:
        """The simulator."""
        started = time.perf_counter()
        build = build_native(self.emission.verilog, self.emission.top, bus_width=self.config.bus_width,
                             waves=self._waves_suffix, label=self.config.digest(), trace=self._trace)
        self.build_seconds = time.perf_counter() - started
        return build

    def open(self, memory_bytes: int) -> RtlSession:
        """Return a new session: the accelerator after reset, with zeroed DRAM.

        Raises
        ------
        ToolError
            If the simulator cannot be built.
        """
        if not 1 <= memory_bytes <= 1 << 32:
            raise ValueError(f"memory_bytes must be between 1 and 2**32, not {memory_bytes!r}")
        sim = NativeSim(self.build, memory_bytes, self.timing)
        if self._waves is not None:
            sim.waves(self._waves)
            self._waves = None
        return self.session_type(self.config, sim, self._watchdog + 4 * self.timing.latency, self._progress)
