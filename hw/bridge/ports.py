"""The connections inside a board's bridge."""

from amaranth.lib import crc, data, wiring
from amaranth.lib.wiring import In, Out

from hw.bridge.protocol import CRC_BYTES, CRC_INITIAL, CRC_POLYNOMIAL, MAX_DATA, REPLY, REQUEST
from hw.isa import Field

__all__ = ["CHECKSUM", "BufferReadPort", "BufferWritePort", "BytePort", "Reply", "Request", "packed"]

CHECKSUM = crc.Algorithm(crc_width=8 * CRC_BYTES, polynomial=CRC_POLYNOMIAL, initial_crc=CRC_INITIAL, reflect_input=False,
                         reflect_output=False, xor_output=0)
"""The checksum of packets."""


def packed(fields: tuple[Field, ...]) -> data.StructLayout:
    """Return fields as a layout from bit 0 up: in the order in which their bytes are sent."""
    return data.StructLayout({field.name: field.width for field in fields})


Request = data.StructLayout({"header": packed(REQUEST), "status": 8})
"""A request, and what is wrong with it (`Status`)."""
Reply = packed(REPLY)


class BytePort(wiring.Signature):
    """One byte of memory at a time (directions of the one that asks).

    Members
    -------
    valid : Out(1), ready : In(1)
        A byte is written, or a read accepted, when valid & ready.
    write : Out(1), addr : Out(addr_width), write_data : Out(8)
    read_data : In(8)
        The byte, in the cycle after its read was accepted, for that cycle only.
    """

    def __init__(self, addr_width: int):
        super().__init__({
            "valid": Out(1), "ready": In(1), "write": Out(1), "addr": Out(addr_width), "write_data": Out(8), "read_data": In(8)})


class BufferReadPort(wiring.Signature):
    """A reader of the packet buffer: `data` is the byte at the `addr` of the cycle before."""

    def __init__(self) -> None:
        super().__init__({"addr": Out(range(MAX_DATA)), "data": In(8)})


class BufferWritePort(wiring.Signature):
    """A writer of the packet buffer."""

    def __init__(self) -> None:
        super().__init__({"addr": Out(range(MAX_DATA)), "data": Out(8), "en": Out(1)})
