"""The golden device: programs interpreted in numpy, bit for bit what the RTL does; the executable definition."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import SEMAPHORE_MAX, SEQUENCER, ErrorCause, Opcode, Unit
from sw.device import DeviceHang, Result, device_error
from sw.golden.array import matrix_model
from sw.golden.pe import pe_model
from sw.golden.refusal import Refusal, Starved
from sw.golden.sequencer import Event, Fault, mask_bits, run_sequencer
from sw.golden.state import State
from sw.golden.token.angles import Angles
from sw.golden.units import UNITS
from sw.program import Program

__all__ = ["GoldenDevice", "GoldenSession", "error_text"]


def error_text(program: Program, cause: ErrorCause, unit: int, pc: int, addr: int) -> str:
    """Return the sentence of a DeviceError."""
    name = "sequencer" if unit == SEQUENCER else f"{Unit(unit).name.lower()} unit"
    return (f"kernel {program.kernel_at(pc)!r} of program {program.name!r} stopped: {cause.name} in the {name} "
            f"at instruction {pc} ({addr:#x})")


class GoldenSession:
    """A session of the golden device; commands run one after the other in program order, so it has no time.

    Attributes
    ----------
    memory : ndarray
        DRAM, uint8, writable in place.
    trace : list of Event
        The queued commands of the last run, in program order, those before an error included.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int):
        if memory_bytes < 1 or memory_bytes > 1 << 32:
            raise ValueError(f"memory_bytes must be between 1 and 2**32, not {memory_bytes!r}")
        self.config = config
        self.memory: npt.NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self.trace: list[Event] = []
        self._scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
        self._accumulator = np.zeros((config.accumulator_rows, config.columns), np.int64)
        self._angles = Angles(config.rotary_pairs)
        self._placed: list[Program] = []

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` to its HALT; see `sw.device.Session.run`."""
        program.check(self.config.digest(), len(self.memory))
        arguments = program.argument_values(args)
        if not any(known is program for known in self._placed):
            program.place(self.memory)
        self._placed = [program, *(known for known in self._placed if known is not program and not known.overlaps(program))]
        counters = dict.fromkeys(("instructions", "macs", "bytes_written", "saturations", *self.config.engine_counters), 0)
        rows = np.full(self.config.vector_rows, np.nan, np.float32)     # row scalars are what a program has written itself
        state = State(config=self.config, memory=self.memory, scratchpad=self._scratchpad, accumulator=self._accumulator,
                      rows=rows, counters=counters, angles=self._angles)
        self.trace = []
        semaphores = [0] * len(mask_bits(-1))
        try:
            for event in run_sequencer(program.code, arguments, parity=self.config.command_parity):
                counters["instructions"] = event.executed
                self._take(program, event, semaphores)
                if event.unit is not None:
                    self.trace.append(event)
                    self._execute(state, event, program)
                self._give(event, semaphores)
        except Fault as fault:
            raise device_error(error_text(program, fault.cause, fault.unit, fault.pc, fault.addr), cause=fault.cause, pc=fault.pc,
                               addr=fault.addr, kernel=program.kernel_at(fault.pc)) from None
        return Result(outputs=program.read_outputs(self.memory), counters=counters)

    def close(self) -> None:
        """Forget the memory."""
        self.memory = np.zeros(0, np.uint8)
        self._placed.clear()

    @staticmethod
    def _execute(state: State, event: Event, program: Program) -> None:
        assert event.unit is not None
        try:
            UNITS[event.unit](state, event.fields)
        except Starved as starved:
            kernel = program.kernel_at(event.pc)
            raise DeviceHang(
                f"kernel {kernel!r} of program {program.name!r} hangs: {event.opcode.name} at instruction {event.pc} waits for "
                f"{starved}", cause=ErrorCause.WATCHDOG, pc=event.pc, addr=int(event.unit), kernel=kernel) from None
        except Refusal as refusal:
            raise Fault(refusal.cause, event.unit, event.pc, refusal.addr) from None

    def _take(self, program: Program, event: Event, semaphores: list[int]) -> None:
        """Take one from each semaphore that an event waits for."""
        for index in mask_bits(event.wait):
            if semaphores[index] == 0:
                unit = SEQUENCER if event.unit is None else event.unit
                counts = ", ".join(f"s{i}={count}" for i, count in enumerate(semaphores) if count) or "all zero"
                raise DeviceHang(
                    f"kernel {program.kernel_at(event.pc)!r} of program {program.name!r} hangs: {event.opcode.name} at "
                    f"instruction {event.pc} waits for semaphore {index}, which nothing before it signals (semaphores: {counts})",
                    cause=ErrorCause.WATCHDOG, pc=event.pc, addr=int(unit), kernel=program.kernel_at(event.pc))
            semaphores[index] -= 1

    @staticmethod
    def _give(event: Event, semaphores: list[int]) -> None:
        """Add one to each semaphore that an event signals."""
        for index in mask_bits(event.signal):
            semaphores[index] += 1
            if semaphores[index] > SEMAPHORE_MAX:
                unit = SEQUENCER if event.opcode == Opcode.SIGNAL or event.unit is None else event.unit
                raise Fault(ErrorCause.SEMAPHORE_OVERFLOW, int(unit), event.pc, index)


class GoldenDevice:
    """The golden model of one config; implements `sw.device.Device`.

    Raises
    ------
    ConfigError
        If the config names a processing element or an engine that has no golden model.
    """

    def __init__(self, config: AcceleratorConfig):
        pe_model(config)
        matrix_model(config)
        self.config = config

    def open(self, memory_bytes: int) -> GoldenSession:
        """Return a new session with zeroed memories."""
        return GoldenSession(self.config, memory_bytes)
