"""Writes the page of the host protocol from its table."""

from flows.docs.markdown import generated_note, table
from hw.bridge import protocol
from hw.isa import Field

__all__ = ["bridge_page"]

_INTRODUCTION = f"""A board (`hw/bridge/board.py`) is an accelerator, on-chip memory in place of DRAM, and a bridge. A host
reaches the bridge through a serial line (8N1) or an AXI4-Stream of bytes in each direction, sends one request at a time, and
waits for the reply.

Every packet is the byte `{protocol.SYNC:#x}`, a header, data, and a checksum of {protocol.CRC_BYTES} bytes, high byte first:
CRC-16/IBM-3740 (polynomial `{protocol.CRC_POLYNOMIAL:#x}`, initially `{protocol.CRC_INITIAL:#x}`) over header and data.
Fields stand in this order, each with its low byte first. A packet holds at most {protocol.MAX_DATA} bytes of data.
This is version {protocol.PROTOCOL_VERSION}.
"""
_RULES = """## What both sides rely on

* What is not a packet is skipped up to the next sync byte; half a request is forgotten after a silence (a tenth of a
  second, unless the board was made otherwise). A host that gets no valid reply with its tag waits for longer than that and sends
  the same packet again.
* Data are kept in a buffer until the checksum is right, so a damaged request changes nothing.
* A wrong header is answered at once; the data that follow it are skipped like any noise.
* Writing registers is the one thing that must not happen twice (the doorbell): a WRITE_REGISTERS with the tag of the
  WRITE_REGISTERS right before it is answered as that one was, and not done.
* The bridge takes no byte while it executes and answers.
"""


def _fields(fields: tuple[Field, ...]) -> str:
    return table(("field", "bytes", "meaning"), [(f"`{field.name}`", field.width // 8, field.doc) for field in fields])


def _length(info: protocol.CommandInfo) -> str:
    if info.length is not None:
        return str(info.length)
    return f"1 to {protocol.MAX_DATA}" + (f", multiple of {info.unit}" if info.unit > 1 else "")


def bridge_page() -> str:
    """Return docs/bridge.md."""
    data = {(True, False): "of the request", (False, True): "of the reply", (False, False): "none"}
    commands = [(f"`{info.command:#04x}`", f"`{info.command.name}`", info.space if info.space != "none" else "–", _length(info),
                 data[info.to_bridge, info.to_host], info.doc) for info in protocol.COMMANDS.values()]
    return "\n".join([
        "# Host protocol\n", generated_note("`hw/bridge/protocol.py`"), _INTRODUCTION,
        "## Request\n", _fields(protocol.REQUEST), "\n## Reply\n", _fields(protocol.REPLY),
        "\n## Commands\n", table(("code", "name", "address in", "length", "data", "meaning"), commands),
        "\n## Status\n", table(("code", "name"), [(f"`{status.value:#04x}`", f"`{status.name}`") for status in protocol.Status]),
        "\n## Data of the reply to INFO\n", _fields(protocol.INFO), "\n" + _RULES])
