"""Golden model of the host bridge: bytes in, bytes out, as `hw.bridge.host` does it but without time."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hw.bridge.protocol import COMMANDS, INFO, MAX_DATA, PROTOCOL_VERSION, SYNC, Command, Status
from hw.regs import REGISTER_SPACE

__all__ = ["HostBridgeModel"]


def _crc(raw: bytes) -> int:
    """Return CRC-16/IBM-3740, a bit at a time."""
    register = 0xFFFF
    for byte in raw:
        for i in range(8):
            out = register >> 15 ^ byte >> 7 - i & 1
            register = register << 1 & 0xFFFF ^ (0x1021 if out else 0)
    return register


class HostBridgeModel:
    """The bridge, its memory and whatever registers it is given.

    Parameters
    ----------
    memory : ndarray of uint8
        Written in place.
    read, write : function
        Register by byte offset → (value, response); (offset, value) → response. A response other than 0 is an error.
    clock_hz : int
    config_digest : str

    Attributes
    ----------
    resets : int
        Commands RESET so far.
    """

    def __init__(self, memory: npt.NDArray[np.uint8], read: Callable[[int], tuple[int, int]], write: Callable[[int, int], int], *,
                 clock_hz: int, config_digest: str):
        self._memory, self._read, self._write = memory, read, write
        self._info = b"".join(value.to_bytes(4, "little") for value in (PROTOCOL_VERSION, len(memory), clock_hz))
        self._info += bytes.fromhex(config_digest[:12])
        assert len(self._info) * 8 == sum(field.width for field in INFO)
        self.resets = 0
        self._pending = b""
        self._last_write: tuple[int, Status] | None = None

    def silence(self) -> None:
        """Forget a request that is not complete: its time is up."""
        self._pending = b""

    def feed(self, raw: bytes) -> bytes:
        """Return what the bridge answers to `raw`, which follows what it got before."""
        answers = b""
        for byte in raw:
            if self._pending or byte == SYNC:
                self._pending += bytes([byte])
                answer = self._serve(self._pending)
                if answer:
                    self._pending = b""
                    answers += answer
        return answers

    def _serve(self, packet: bytes) -> bytes:
        """Return the reply if `packet` is whole or wrong, else nothing."""
        if len(packet) < 9:
            return b""
        command, tag, length = packet[1], packet[2], packet[3] | packet[4] << 8
        addr = int.from_bytes(packet[5:9], "little")
        status = self._fault(command, length, addr)
        size = length if status == Status.OK and COMMANDS[Command(command)].to_bridge else 0
        if status == Status.OK:
            if len(packet) < 9 + size + 2:
                return b""
            if _crc(packet[1:9 + size]) != packet[9 + size] << 8 | packet[10 + size]:
                status = Status.BAD_CHECKSUM
        answer = b""
        if status == Status.OK:
            status, answer = self._do(Command(command), tag, length, addr, packet[9:9 + size])
        body = bytes([status, tag, len(answer) & 255, len(answer) >> 8]) + answer
        return bytes([SYNC]) + body + _crc(body).to_bytes(2, "big")

    def _fault(self, command: int, length: int, addr: int) -> Status:
        if command not in set(Command):
            return Status.BAD_COMMAND
        info = COMMANDS[Command(command)]
        if length != info.length if info.length is not None else not 1 <= length <= MAX_DATA or length % info.unit:
            return Status.BAD_LENGTH
        space = {"memory": len(self._memory), "registers": REGISTER_SPACE}.get(info.space)
        if space is not None and (addr + (length if info.length is None else 0) > space or addr % info.unit):
            return Status.BAD_ADDRESS
        return Status.OK

    def _do(self, command: Command, tag: int, length: int, addr: int, data: bytes) -> tuple[Status, bytes]:
        repeated = self._last_write is not None and self._last_write[0] == tag
        before, self._last_write = self._last_write, None
        status, answer = Status.OK, b""
        if command == Command.INFO:
            answer = self._info
        elif command == Command.RESET:
            self.resets += 1
        elif command == Command.READ_MEMORY:
            answer = self._memory[addr:addr + length].tobytes()
        elif command == Command.WRITE_MEMORY:
            self._memory[addr:addr + length] = np.frombuffer(data, np.uint8)
        elif command == Command.CLEAR_MEMORY:
            end = addr + int.from_bytes(data, "little")
            self._memory[addr:end] = 0
            if end > len(self._memory):
                status = Status.BAD_ADDRESS
        elif command == Command.READ_REGISTERS:
            for offset in range(addr, addr + length, 4):
                value, response = self._read(offset)
                if response:
                    return Status.BUS_ERROR, b""
                answer += value.to_bytes(4, "little")
        elif repeated and before is not None:
            self._last_write = before
            status = before[1]
        else:
            for i in range(0, length, 4):
                if self._write(addr + i, int.from_bytes(data[i:i + 4], "little")):
                    status = Status.BUS_ERROR
                    break
            self._last_write = tag, status
        return status, answer
