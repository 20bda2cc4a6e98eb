"""The host's side of a board's bridge: packets of `hw.bridge.protocol` over any transport of bytes."""

import binascii
from dataclasses import dataclass
from typing import Protocol

from hw.bridge.protocol import (
    COMMANDS,
    CRC_BYTES,
    CRC_INITIAL,
    INFO,
    MAX_DATA,
    PROTOCOL_VERSION,
    REPLY,
    REQUEST,
    SYNC,
    Command,
    Status,
    field_bytes,
)
from hw.isa import Field

__all__ = ["BridgeClient", "BridgeError", "BridgeInfo", "Packet", "Transport", "encode_request", "find_reply"]

_OVERHEAD = 1 + field_bytes(REPLY) + CRC_BYTES
_NOISE = 1 << 16                # bytes of anything else after which no reply is expected any more


class BridgeError(RuntimeError):
    """The board does not answer, or refuses a request."""


class Transport(Protocol):
    """Bytes to a board and back: a serial port, a socket, a simulation."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def read(self, count: int, timeout: float) -> bytes:
        """Return up to `count` bytes, fewer only when no more have come within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Give the board up."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgeInfo:
    """What a board says of itself.

    Attributes
    ----------
    memory_bytes : int
    clock_hz : int
    config_digest : str
        12 hexadecimal digits, as `AcceleratorConfig.digest()` has them.
    """

    memory_bytes: int
    clock_hz: int
    config_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """A reply that is whole."""

    status: int
    tag: int
    data: bytes


def _pack(fields: tuple[Field, ...], values: dict[str, int]) -> bytes:
    return b"".join(values[field.name].to_bytes(field.width // 8, "little") for field in fields)


def _unpack(fields: tuple[Field, ...], raw: bytes) -> dict[str, int]:
    values, start = {}, 0
    for field in fields:
        end = start + field.width // 8
        values[field.name] = int.from_bytes(raw[start:end], "little")
        start = end
    return values


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, CRC_INITIAL).to_bytes(CRC_BYTES, "big")


def encode_request(command: int, *, tag: int, addr: int = 0, length: int | None = None, data: bytes = b"") -> bytes:
    """Return a request packet; `length` is that of the data unless it is given."""
    fields = {"command": command, "tag": tag, "length": len(data) if length is None else length, "addr": addr}
    body = _pack(REQUEST, fields) + data
    return bytes([SYNC]) + body + _checksum(body)


def find_reply(raw: bytes) -> tuple[Packet | None, int, int]:
    """Look for a reply packet in what has come so far.

    Returns
    -------
    (Packet or None, int, int)
        The first packet that is whole and undamaged; how many bytes are done with; how many more there must be at least
        before another look can find one.
    """
    start = raw.find(SYNC)
    while start >= 0:
        header = raw[start + 1:start + 1 + field_bytes(REPLY)]
        if len(header) < field_bytes(REPLY):
            return None, start, start + _OVERHEAD - len(raw)
        fields = _unpack(REPLY, header)
        end = start + _OVERHEAD + fields["length"]
        if fields["length"] <= MAX_DATA:
            if end > len(raw):
                return None, start, end - len(raw)
            body = raw[start + 1:end - CRC_BYTES]
            if _checksum(body) == raw[end - CRC_BYTES:end]:
                return Packet(status=fields["status"], tag=fields["tag"], data=body[field_bytes(REPLY):]), end, 0
        start = raw.find(SYNC, start + 1)
    return None, len(raw), _OVERHEAD


class BridgeClient:
    """Reads and writes a board's memory and registers; implements `flows.registers.RegisterBus`.

    A request that is not answered, or answered as damaged, is sent again after a pause in which the board forgets the half of
    it that may have come. Requests can be repeated without harm (see `hw.bridge.executor`).

    Parameters
    ----------
    transport : Transport
    timeout : float
        Seconds within which the next bytes of a reply must come.
    silence : float
        Seconds of the pause; more than the bridge's timeout.
    attempts : int
        How often a request is sent.

    Attributes
    ----------
    repeats : int
        Requests that had to be sent again.
    """

    def __init__(self, transport: Transport, *, timeout: float = 1.0, silence: float = 0.15, attempts: int = 4):
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts!r}")
        self.transport = transport
        self.repeats = 0
        self._timeout, self._silence, self._attempts = timeout, silence, attempts
        self._tag = 0

    def info(self) -> BridgeInfo:
        """Return what the board is.

        Raises
        ------
        BridgeError
            If nothing answers, or something that speaks another version.
        """
        values = _unpack(INFO, self._transact(Command.INFO, length=field_bytes(INFO)))
        if values["version"] != PROTOCOL_VERSION:
            raise BridgeError(f"the board must speak version {PROTOCOL_VERSION} of the protocol, not {values['version']}")
        return BridgeInfo(memory_bytes=values["memory_bytes"], clock_hz=values["clock_hz"],
                          config_digest=values["config_digest"].to_bytes(6, "little").hex())

    def reset(self) -> None:
        """Reset the accelerator."""
        self._transact(Command.RESET)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Return `size` bytes from `addr` on."""
        pieces = (self._transact(Command.READ_MEMORY, addr=at, length=min(MAX_DATA, addr + size - at))
                  for at in range(addr, addr + size, MAX_DATA))
        return b"".join(pieces)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write bytes from `addr` on."""
        for at in range(0, len(data), MAX_DATA):
            self._transact(Command.WRITE_MEMORY, addr=addr + at, data=data[at:at + MAX_DATA])

    def clear_memory(self, addr: int, size: int) -> None:
        """Write `size` zeros from `addr` on."""
        self._transact(Command.CLEAR_MEMORY, addr=addr, data=size.to_bytes(4, "little"))

    def read(self, addr: int) -> int:
        """Return the register at byte offset `addr`."""
        return int.from_bytes(self._transact(Command.READ_REGISTERS, addr=addr, length=4), "little")

    def write(self, addr: int, value: int) -> None:
        """Write the register at byte offset `addr`."""
        self._transact(Command.WRITE_REGISTERS, addr=addr, data=value.to_bytes(4, "little"))

    def close(self) -> None:
        """Close the transport."""
        self.transport.close()

    def _transact(self, command: Command, *, addr: int = 0, length: int = 0, data: bytes = b"") -> bytes:
        """Send a request until it is answered; return the data of the reply."""
        self._tag = (self._tag + 1) % 256
        request = encode_request(command, tag=self._tag, addr=addr, length=len(data) or length, data=data)
        expected = length if COMMANDS[command].to_host else 0
        said = "no answer"
        for attempt in range(self._attempts):
            if attempt:
                self.repeats += 1
                while self.transport.read(MAX_DATA, self._silence):
                    pass
            self.transport.write(request)
            reply = self._reply(expected)
            if reply is None:
                continue
            if reply.status == Status.OK and len(reply.data) == expected:
                return reply.data
            said = f"answer {Status(reply.status).name}" if reply.status in set(Status) else f"answer {reply.status}"
            if reply.status == Status.BUS_ERROR:
                break
        raise BridgeError(f"{command.name} of {len(data) or length} bytes at {addr:#x}: {said} after {attempt + 1} attempts")

    def _reply(self, length: int) -> Packet | None:
        """Return the reply to the request with the current tag, None if it does not come."""
        raw, needed = b"", _OVERHEAD + length
        for _ in range(_NOISE // needed):
            more = self.transport.read(needed, self._timeout)
            if not more and not raw:
                return None
            # When nothing more comes, what looked like the start of a packet was none.
            raw = raw + more if more else raw[1:]
            packet, done, needed = find_reply(raw)
            while packet is not None:
                if packet.tag == self._tag:
                    return packet
                raw = raw[done:]
                packet, done, needed = find_reply(raw)
            raw = raw[done:]
        return None
