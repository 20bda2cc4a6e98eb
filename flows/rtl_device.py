"""The accelerator's RTL as a device: emitted Verilog in the native simulator, behind the protocol of the golden device."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.build import NativeBuild, build_native
from flows.emit import Emission, emit
from flows.native_sim import BusError, MemoryTiming, NativeSim
from flows.registers import Registers
from hw.config import AcceleratorConfig
from hw.isa import SEMAPHORES, ErrorCause
from hw.regs import ID_VALUE, VERSION_VALUE
from sw.device import DeviceError, DeviceHang, Result
from sw.golden.device import error_text
from sw.program import Program

__all__ = ["WATCHDOG_CYCLES", "RtlDevice", "RtlSession"]

WATCHDOG_CYCLES = 1_000_000
"""Cycles without progress after which a run counts as hung; a command at work makes progress however long it takes."""
_CHUNK = 100_000
_HOST_PATIENCE = 3           # the host gives up where the accelerator's own watchdog should have ended it long ago


class RtlSession:
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
        self.config = config
        self.sim = sim
        self.registers = Registers(sim)
        self.run_cycles, self.run_seconds = 0, 0.0
        self._watchdog, self._progress = watchdog, progress
        self._placed: list[Program] = []
        self._stuck = False
        found = self.registers.read("ID"), self.registers.read("VERSION")
        if found != (ID_VALUE, VERSION_VALUE):
            raise BusError(f"registers ID and VERSION read 0x{found[0]:08X} and {found[1]}, "
                           f"not 0x{ID_VALUE:08X} and {VERSION_VALUE}")

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM, flat uint8, writable in place."""
        return self.sim.memory

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` to its HALT; see `sw.device.Session.run`.

        Raises
        ------
        BusError
            Besides what the protocol names: if the accelerator breaks a rule of its buses.
        """
        program.check(self.config.digest(), len(self.memory))
        arguments = program.argument_values(args)
        self._place(program)
        if self._stuck:  # its bus hung in the last run: only a reset makes it take another start
            self.sim.reset()
            self._stuck = False
        started, before = time.perf_counter(), self.sim.cycle
        try:
            self._start(program, arguments)
            self._wait(program)
            self._raise_error(program)
            counters = self.registers.counters()
        finally:
            self.run_cycles += self.sim.cycle - before
            self.run_seconds += time.perf_counter() - started
        return Result(outputs=program.read_outputs(self.memory), cycles=counters["cycles"], counters=counters)

    def close(self) -> None:
        """Free the simulation."""
        self.sim.close()

    def _place(self, program: Program) -> None:
        """Write code and constants, unless they are there since an earlier run and no other program has had their place."""
        if not any(known is program for known in self._placed):
            program.place(self.memory)
        self._placed = [program, *(known for known in self._placed if known is not program and not known.overlaps(program))]

    def _start(self, program: Program, arguments: Mapping[int, int]) -> None:
        write = self.registers.write
        for index, value in arguments.items():
            write(f"ARG{index}", value)
        write("PROGRAM_ADDR", program.code_addr)
        write("PROGRAM_LENGTH", len(program.code))
        write("WATCHDOG", self._watchdog)
        write("IRQ_ENABLE", done=1, error=1)
        write("IRQ_STATUS", done=1, error=1)
        write("CONTROL", start=1)

    def _wait(self, program: Program) -> None:
        """Run until the interrupt; raise DeviceHang when nothing happens any more and the hardware does not say so itself."""
        seen: tuple[int, ...] = ()
        since = start = self.sim.cycle
        while not self.sim.run(min(_CHUNK, self._watchdog)):
            now = self.sim.read_beats, self.sim.write_beats, *map(self.registers.read, ("INSTRUCTIONS_LO", "MACS_LO", "QUEUES"))
            if now != seen:
                seen, since = now, self.sim.cycle
            elif self.sim.cycle - since > _HOST_PATIENCE * self._watchdog:
                self._stuck = True
                self._raise_hang(program, self.registers.read("PC"), "its watchdog does not end it; ")
            if self._progress is not None:
                self._progress(self.sim.cycle - start)

    def _raise_error(self, program: Program) -> None:
        status = self.registers.fields("STATUS")
        self._stuck = bool(status["busy"])
        if not status["error"]:
            return
        error, pc, addr = self.registers.fields("ERROR"), self.registers.read("ERROR_PC"), self.registers.read("ERROR_ADDR")
        cause = ErrorCause(error["cause"])
        if cause == ErrorCause.WATCHDOG:
            self._raise_hang(program, pc, "")
        raise DeviceError(error_text(program, cause, error["unit"], pc, addr), cause=cause, pc=pc, addr=addr,
                          kernel=program.kernel_at(pc))

    def _raise_hang(self, program: Program, pc: int, remark: str) -> None:
        waiting = [name for name, waits in self.registers.fields("WAITING").items() if waits]
        queues = ", ".join(f"{name} {count}" for name, count in self.registers.fields("QUEUES").items())
        counts: list[int] = []
        for i in range(SEMAPHORES // 4):
            counts += self.registers.fields(f"SEMAPHORES{i}").values()
        semaphores = ", ".join(f"s{i}={count}" for i, count in enumerate(counts) if count) or "all zero"
        kernel = program.kernel_at(pc)
        raise DeviceHang(
            f"kernel {kernel!r} of program {program.name!r} hangs: no progress for {self._watchdog} cycles at instruction {pc}; "
            f"{remark}waiting for semaphores: {', '.join(waiting) or 'none'}; commands queued: {queues}; "
            f"semaphores: {semaphores}",
            cause=ErrorCause.WATCHDOG, pc=pc, addr=0, kernel=kernel)


class RtlDevice:
    """The RTL of one config; implements `sw.device.Device`. Emitted and built when it is first opened.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : MemoryTiming or None
        Behaviour of the memory; by default one beat a cycle, 32 cycles of latency, no stalls.
    variant : str
        A key of `flows.verilated.VARIANTS`.
    waves : path or None
        File for the waves of the session opened first, .vcd or .fst.
    watchdog : int
        Cycles without progress that count as a hang, beyond what the memory's latency explains.
    progress : function of int, or None
        Called now and then with the cycles of the run so far.

    Attributes
    ----------
    build_seconds : float
        What emission and build took when `build` was first asked for.
    """

    def __init__(self, config: AcceleratorConfig, *, timing: MemoryTiming | None = None, variant: str = "fast-build",
                 waves: Path | str | None = None, watchdog: int = WATCHDOG_CYCLES, progress: Callable[[int], None] | None = None):
        if not 1 <= watchdog < 1 << 31:
            raise ValueError(f"watchdog must be between 1 and {(1 << 31) - 1} cycles, not {watchdog!r}")
        self.config = config
        self.timing = timing or MemoryTiming()
        self._variant, self._watchdog, self._progress = variant, watchdog, progress
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
        build = build_native(self.emission.verilog, self.emission.top, bus_width=self.config.bus_width, variant=self._variant,
                             waves=self._waves_suffix, label=self.config.digest())
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
        return RtlSession(self.config, sim, self._watchdog + 4 * self.timing.latency, self._progress)
