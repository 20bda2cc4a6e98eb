"""What the sessions of all real accelerators share, simulated or on a board: they are driven through their registers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from flows.native_sim import BusError
from flows.registers import RegisterBus, Registers
from hw.config import AcceleratorConfig
from hw.isa import SEMAPHORES, SEQUENCER, ErrorCause
from hw.regs import ID_VALUE, VERSION_VALUE, counters_of
from sw.device import DeviceHang, ProtectionError, Result, device_error
from sw.golden.device import error_text
from sw.program import Program

__all__ = ["HOST_PATIENCE", "RegisterSession"]

HOST_PATIENCE = 3            # the host gives up where the accelerator's own watchdog should have ended it long ago


class RegisterSession(ABC):
    """Runs programs by doorbell and interrupt; implements `sw.device.Session` but for `memory`, waiting and reset.

    Parameters
    ----------
    config : AcceleratorConfig
    bus : RegisterBus
        Reaches the registers.
    watchdog : int
        Cycles without progress that count as a hang.

    Attributes
    ----------
    registers : Registers

    Raises
    ------
    BusError
        If there is no accelerator of ours behind the registers.
    """

    def __init__(self, config: AcceleratorConfig, bus: RegisterBus, watchdog: int):
        self.config = config
        self.registers = Registers(bus, counters_of(config.engine_counters))
        self._watchdog = watchdog
        self._placed: list[Program] = []
        self._stuck = False
        found = self.registers.read("ID"), self.registers.read("VERSION")
        if found != (ID_VALUE, VERSION_VALUE):
            raise BusError(f"registers ID and VERSION read 0x{found[0]:08X} and {found[1]}, "
                           f"not 0x{ID_VALUE:08X} and {VERSION_VALUE}")

    @property
    @abstractmethod
    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM, flat uint8, writable in place."""

    @abstractmethod
    def _reset(self) -> None:
        """Reset the accelerator, not its memory."""

    @abstractmethod
    def _wait(self, program: Program) -> None:
        """Wait for the interrupt; call `_give_up` when nothing happens any more."""

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` to its HALT; see `sw.device.Session.run`.

        Raises
        ------
        BusError
            Besides what the protocol names: if the accelerator breaks a rule of its buses, or cannot be reached.
        """
        program.check(self.config.digest(), len(self.memory))
        arguments = program.argument_values(args)
        self._place(program)
        if self._stuck:  # its bus hung in the last run, or a register is wrong: only a reset makes it take another start
            self._reset()
            self._stuck = False
        counters = self._execute(program, arguments)
        return Result(outputs=program.read_outputs(self.memory), cycles=counters["cycles"], counters=counters)

    def _place(self, program: Program) -> None:
        """Write code and constants, unless they are there since an earlier run and no other program has had their place."""
        if not any(known is program for known in self._placed):
            program.place(self.memory)
        self._placed = [program, *(known for known in self._placed if known is not program and not known.overlaps(program))]

    def _execute(self, program: Program, arguments: Mapping[int, int]) -> dict[str, int]:
        """Start, wait, look for errors; return the counters."""
        self._start(program, arguments)
        self._wait(program)
        self._raise_error(program)
        return self.registers.counters()

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

    def _give_up(self, program: Program) -> None:
        """Raise DeviceHang where the hardware's watchdog does not."""
        self._stuck = True
        self._raise_hang(program, self.registers.read("PC"), "its watchdog does not end it; ")

    def _raise_error(self, program: Program) -> None:
        status = self.registers.fields("STATUS")
        self._stuck = bool(status["busy"])
        if not status["error"]:
            return
        error, pc, addr = self.registers.fields("ERROR"), self.registers.read("ERROR_PC"), self.registers.read("ERROR_ADDR")
        known = {cause.value: cause for cause in ErrorCause}
        if error["cause"] not in known or error["unit"] > SEQUENCER:        # the register itself has been hit
            self._stuck = True
            raise ProtectionError(f"program {program.name!r} stopped, and register ERROR shows cause {error['cause']} of unit "
                                  f"{error['unit']}, which there is not", cause=ErrorCause.PROTECTION, pc=pc, addr=addr,
                                  kernel=program.kernel_at(pc))
        cause = known[error["cause"]]
        if cause == ErrorCause.WATCHDOG:
            self._raise_hang(program, pc, "")
        self._stuck |= cause == ErrorCause.PROTECTION       # what is wrong may stay wrong, and stop the next run
        raise device_error(error_text(program, cause, error["unit"], pc, addr), cause=cause, pc=pc, addr=addr,
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
