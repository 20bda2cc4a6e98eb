"""What every device is: the golden model, the RTL in simulation, later a board. One protocol: callers never know which."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from sw.program import Program

__all__ = ["Device", "DeviceError", "DeviceHang", "ProtectionError", "Result", "Session", "device_error"]

PROTECTION_CAUSES = (ErrorCause.PROTECTION, ErrorCause.COMMAND_PARITY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one run of a Program gave.

    Attributes
    ----------
    outputs : dict of str to ndarray
        A copy of each region of role "output", flat uint8; `sw.runtime` views it as a tensor.
    cycles : int
        Cycles from doorbell to stop; 0 on a device without time.
    counters : dict of str to int
        Every counter of `hw.regs.counters_of` that the device has; "retries" where runs are repeated (`sw.retry`).
    """

    outputs: dict[str, npt.NDArray[np.uint8]]
    cycles: int = 0
    counters: dict[str, int] = field(default_factory=dict)


class DeviceError(RuntimeError):
    """The accelerator stopped with an error: the text names cause, kernel, instruction and what was wrong.

    Attributes
    ----------
    cause : ErrorCause
    pc : int
        Index of the instruction that queued the command.
    addr : int
        Address, size or opcode at fault.
    kernel : str
        The kernel that the instruction belongs to.
    """

    def __init__(self, text: str, *, cause: ErrorCause, pc: int, addr: int, kernel: str):
        super().__init__(text)
        self.cause, self.pc, self.addr, self.kernel = cause, pc, addr, kernel


class DeviceHang(DeviceError):
    """The accelerator made no progress; the text shows queues, semaphores and the waiting heads."""


class ProtectionError(DeviceError):
    """The accelerator noticed an error of its own hardware; the program is not to blame, and may be run again (`sw.retry`)."""


def device_error(text: str, *, cause: ErrorCause, pc: int, addr: int, kernel: str) -> DeviceError:
    """Return the error of a cause: a `ProtectionError` where the hardware noticed an error of its own."""
    kind = ProtectionError if cause in PROTECTION_CAUSES else DeviceError
    return kind(text, cause=cause, pc=pc, addr=addr, kernel=kernel)


class Session(Protocol):
    """A device with memory; the memory lives across runs."""

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM, flat and writable in place; shape (memory_bytes,)."""
        ...

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Place the program's code and constants in memory (once), set its arguments, run it to the end.

        Raises
        ------
        DeviceError, DeviceHang
            If the accelerator stops with an error or makes no progress.
        ValueError
            If the program is for another config, does not fit into the memory, or an argument is missing or unknown.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; it cannot be used afterwards."""
        ...


class Device(Protocol):
    """Something that runs Programs of one config."""

    config: AcceleratorConfig

    def open(self, memory_bytes: int) -> Session:
        """Return a new session with `memory_bytes` of zeroed DRAM."""
        ...
