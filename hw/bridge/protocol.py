"""The host protocol of a board as one table: packets of bytes, from which the bridge and the host's driver are made."""

from dataclasses import dataclass
from enum import IntEnum

from hw.isa import Field

__all__ = [
    "COMMANDS", "CRC_BYTES", "CRC_INITIAL", "CRC_POLYNOMIAL", "INFO", "MAX_DATA", "PROTOCOL_VERSION", "REPLY", "REQUEST", "SYNC",
    "Command", "CommandInfo", "Status", "field_bytes",
]

PROTOCOL_VERSION = 1
SYNC = 0xA5                   # first byte of every packet, not part of the checksum
MAX_DATA = 512                # bytes of data in a packet: one block RAM holds them
CRC_POLYNOMIAL, CRC_INITIAL, CRC_BYTES = 0x1021, 0xFFFF, 2
"""CRC-16/IBM-3740 (CCITT-FALSE) over everything between sync and checksum; its high byte is sent first."""


class Command(IntEnum):
    """What the host asks for."""

    INFO = 0x01
    READ_MEMORY = 0x02
    WRITE_MEMORY = 0x03
    CLEAR_MEMORY = 0x04
    READ_REGISTERS = 0x05
    WRITE_REGISTERS = 0x06
    RESET = 0x07


class Status(IntEnum):
    """How it went."""

    OK = 0x00
    BAD_CHECKSUM = 0x01
    BAD_COMMAND = 0x02
    BAD_LENGTH = 0x03
    BAD_ADDRESS = 0x04
    BUS_ERROR = 0x05


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandInfo:
    """How a command is sent.

    Attributes
    ----------
    command : Command
    to_bridge, to_host : bool
        Whether the request, or the reply if it is OK, has `length` bytes of data.
    unit : int
        Bytes of which `addr` and `length` must be multiples.
    length : int or None
        What `length` must be; None: 1 to `MAX_DATA`.
    space : str
        Where `addr` lies: "memory", "registers", or "none": ignored.
    doc : str
    """

    command: Command
    to_bridge: bool
    to_host: bool
    unit: int = 1
    length: int | None = None
    space: str = "none"
    doc: str


def _field(name: str, width: int, doc: str) -> Field:
    return Field(name=name, width=width, doc=doc)


REQUEST: tuple[Field, ...] = (
    _field("command", 8, "Command"),
    _field("tag", 8, "comes back in the reply; a write of registers whose tag is that of the request before is not done again"),
    _field("length", 16, "bytes of data"),
    _field("addr", 32, "first byte in memory or among the registers"),
)
REPLY: tuple[Field, ...] = (
    _field("status", 8, "Status"),
    _field("tag", 8, "of the request"),
    _field("length", 16, "bytes of data; 0 unless OK"),
)
"""Headers, between sync and data: fields in this order, each with its low byte first."""

INFO: tuple[Field, ...] = (
    _field("version", 32, "PROTOCOL_VERSION"),
    _field("memory_bytes", 32, "memory, from address 0"),
    _field("clock_hz", 32, "clock of the accelerator"),
    _field("config_digest", 48, "first six bytes of the digest of the config, in the order in which it is written"),
)
"""Data of the reply to INFO."""


def field_bytes(fields: tuple[Field, ...]) -> int:
    """Return how many bytes fields take."""
    return sum(field.width for field in fields) // 8


COMMANDS: dict[Command, CommandInfo] = {
    info.command: info
    for info in (
        CommandInfo(command=Command.INFO, to_bridge=False, to_host=True, length=field_bytes(INFO), doc="what the board is"),
        CommandInfo(command=Command.READ_MEMORY, to_bridge=False, to_host=True, space="memory", doc="read bytes"),
        CommandInfo(command=Command.WRITE_MEMORY, to_bridge=True, to_host=False, space="memory", doc="write bytes"),
        CommandInfo(command=Command.CLEAR_MEMORY, to_bridge=True, to_host=False, length=4, space="memory",
                    doc="write zeros; how many is the data, low byte first"),
        CommandInfo(command=Command.READ_REGISTERS, to_bridge=False, to_host=True, unit=4, space="registers",
                    doc="read registers of 4 bytes, low byte first"),
        CommandInfo(command=Command.WRITE_REGISTERS, to_bridge=True, to_host=False, unit=4, space="registers",
                    doc="write registers, in ascending order"),
        CommandInfo(command=Command.RESET, to_bridge=False, to_host=False, length=0,
                    doc="reset the accelerator; memory keeps its contents"),
    )
}
