"""A board as a device: programs that ran in simulation run on it, through any transport of bytes."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from flows.native_sim import BusError
from flows.rtl_device import WATCHDOG_CYCLES
from flows.session import HOST_PATIENCE, RegisterSession
from hw.config import AcceleratorConfig
from sw.bridge import BridgeClient, BridgeError
from sw.device import Result
from sw.program import Program

__all__ = ["BoardDevice", "BoardSession"]

_PAGE = 64                      # bytes that are compared, and sent, together


class BoardSession(RegisterSession):
    """One board. `memory` is a copy of its memory in the host, which runs and `fetch` bring up to date.

    Before a run, every page of 64 bytes that differs from what the board was last known to hold is sent. After it, also after
    one that ended in an error, the regions of role "output" and "scratch" are read back: what else a program has written (it
    should not) is seen after `fetch`.

    Attributes
    ----------
    client : BridgeClient
    bytes_sent, bytes_fetched : int
        Memory that has gone over the link.
    """

    def __init__(self, config: AcceleratorConfig, client: BridgeClient, memory_bytes: int, watchdog: int, clock_hz: int):
        self.client = client
        self.bytes_sent, self.bytes_fetched = 0, 0
        self._patience = 1.0 + HOST_PATIENCE * watchdog / clock_hz
        self._memory: npt.NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self._known = self._memory.copy()
        client.reset()
        client.clear_memory(0, memory_bytes)
        super().__init__(config, client, watchdog)

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """The host's copy of the memory, flat uint8, writable in place."""
        return self._memory

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program` to its HALT; see `RegisterSession.run`.

        Raises
        ------
        BridgeError
            If the board does not answer.
        """
        return super().run(program, args)

    def send(self) -> None:
        """Bring the board's memory up to date."""
        whole = -(-len(self._memory) // _PAGE) * _PAGE
        differs = np.zeros(whole, bool)
        np.not_equal(self._memory, self._known, out=differs[:len(self._memory)])
        pages = differs.reshape(-1, _PAGE).any(axis=1)
        edges = np.flatnonzero(np.diff(pages, prepend=False, append=False)) * _PAGE
        for start, end in edges.reshape(-1, 2).tolist():
            end = min(end, len(self._memory))
            self.client.write_memory(start, self._memory[start:end].tobytes())
            self._known[start:end] = self._memory[start:end]
            self.bytes_sent += end - start

    def fetch(self, addr: int = 0, size: int | None = None) -> None:
        """Read a piece of the board's memory, by default all of it, into `memory`."""
        size = len(self._memory) - addr if size is None else size
        read = np.frombuffer(self.client.read_memory(addr, size), np.uint8)
        self._memory[addr:addr + size] = self._known[addr:addr + size] = read
        self.bytes_fetched += size

    def close(self) -> None:
        """Give the board up."""
        self.client.close()

    def _reset(self) -> None:
        self.client.reset()

    def _execute(self, program: Program, arguments: Mapping[int, int]) -> dict[str, int]:
        self.send()
        try:
            return super()._execute(program, arguments)
        finally:
            for region in program.regions:
                if region.role in ("output", "scratch"):
                    self.fetch(region.addr, region.size)

    def _wait(self, program: Program) -> None:
        seen: tuple[int, ...] = ()
        since = time.monotonic()
        while not self.registers.read("IRQ_STATUS"):
            now = tuple(map(self.registers.read, ("INSTRUCTIONS_LO", "MACS_LO", "BYTES_READ_LO", "BYTES_WRITTEN_LO", "QUEUES")))
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self._patience:
                self._give_up(program)


class BoardDevice:
    """A board with the RTL of one config; implements `sw.device.Device`.

    Parameters
    ----------
    config : AcceleratorConfig
        What the board was made of; it says so itself, and another one is refused.
    connect : function
        Returns a client of the board; called once for each session, so there is one session at a time.
    watchdog : int
        Cycles without progress that count as a hang.
    """

    def __init__(self, config: AcceleratorConfig, connect: Callable[[], BridgeClient], *, watchdog: int = WATCHDOG_CYCLES):
        if not 1 <= watchdog < 1 << 31:
            raise ValueError(f"watchdog must be between 1 and {(1 << 31) - 1} cycles, not {watchdog!r}")
        self.config = config
        self._connect, self._watchdog = connect, watchdog

    def open(self, memory_bytes: int) -> BoardSession:
        """Return a new session: the board after a reset, with zeroed memory.

        Raises
        ------
        ValueError
            If the board has less memory.
        BusError, BridgeError
            If the board is made of another config, or does not answer.
        """
        if memory_bytes < 1:
            raise ValueError(f"memory_bytes must be at least 1, not {memory_bytes!r}")
        client = self._connect()
        try:
            info = client.info()
            if info.config_digest != self.config.digest()[:12]:
                raise BusError(f"the board must be made of config {self.config.digest()[:12]}, not {info.config_digest}")
            if memory_bytes > info.memory_bytes:
                raise ValueError(f"memory_bytes must be at most {info.memory_bytes} on this board, not {memory_bytes!r}")
            return BoardSession(self.config, client, memory_bytes, self._watchdog, info.clock_hz)
        except (BridgeError, BusError, ValueError):
            client.close()
            raise
