"""What every PIM device is: the golden machine, or the RTL in simulation. The frame's contract, with channels and host words."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.isa import PimErrorCause
from sw.device import Result
from sw.pim.program import Memory, PimProgram

__all__ = ["PimDevice", "PimError", "PimSession", "channels_of"]

Floats = npt.NDArray[np.float32]


class PimError(RuntimeError):
    """A channel stopped with an error: the text names program, channel, command and cause.

    Attributes
    ----------
    cause : PimErrorCause
    channel, index : int
    """

    def __init__(self, program: str, cause: PimErrorCause, channel: int, index: int):
        super().__init__(f"program {program!r} stopped: {cause.name} at command {index} of channel {channel}")
        self.cause, self.channel, self.index = cause, channel, index


class PimSession(Protocol):
    """Channels with memory; the memory lives across runs."""

    @property
    def memory(self) -> Memory:
        """DRAM of each channel, (sets of banks, rows, bytes of a row), writable in place; how data lie: `sw.pim.program`."""
        ...

    def run(self, program: PimProgram, args: Mapping[str, int] | None = None,
            inputs: Mapping[str, Floats] | None = None) -> Result:
        """Place the program's constants (once), send what the host sends, run the lists of all channels to their ends.

        Returns
        -------
        Result
            `outputs` has each output stream, uint8 of (count, X, width) float32; `cycles` are those of the channel that takes
            longest, 0 on a device without time.

        Raises
        ------
        PimError
            If a channel stops with an error.
        ValueError
            If the program is for another config or more memory, its list cannot run, or an argument or input does not fit.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; it cannot be used afterwards."""
        ...


class PimDevice(Protocol):
    """Something that runs PimPrograms of one config, on so many channels."""

    config: PimConfig
    channels: int

    def open(self) -> PimSession:
        """Return a new session with zeroed DRAM: all that the config says, of which what is touched costs memory here."""
        ...


def channels_of(config: PimConfig, channels: int | None) -> int:
    """Return how many channels a device has; by default all that the config says.

    Raises
    ------
    ConfigError
        If there are not so many.
    """
    if channels is None:
        return config.n_pch
    if not 1 <= channels <= config.n_pch:
        raise ConfigError(f"channels must be between 1 and {config.n_pch}, the pseudo-channels, not {channels!r}")
    return channels
