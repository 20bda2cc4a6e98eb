"""Sends reply packets."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bridge.ports import CHECKSUM, BufferReadPort, Reply
from hw.bridge.protocol import CRC_BYTES, MAX_DATA, REPLY, SYNC, field_bytes

__all__ = ["ReplySender"]


class ReplySender(wiring.Component):
    """Sync, header, data from the buffer, checksum: a byte in two cycles at best.

    Members
    -------
    i : In(stream of `Reply`)
        Taken when the last byte of the packet is.
    buffer : Out(BufferReadPort)
    o : Out(stream of 8)
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(Reply)), "buffer": Out(BufferReadPort()), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.checksum = checksum = CHECKSUM(data_width=8).create()
        header = self.i.payload
        index = Signal(range(MAX_DATA + 1))             # byte of this part
        following = Signal.like(index)
        given = Signal()
        header_bytes = Array(header.as_value().word_select(i, 8) for i in range(field_bytes(REPLY)))
        m.d.comb += [
            given.eq(self.o.valid & self.o.ready),
            following.eq(index + 1),
            self.buffer.addr.eq(index),
            checksum.data.eq(self.o.payload),
            checksum.valid.eq(given),
        ]
        with m.If(given):
            m.d.sync += index.eq(following)
        with m.FSM(name="state"):
            with m.State("SYNC"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.o.payload.eq(SYNC), checksum.valid.eq(0), checksum.start.eq(1)]
                m.d.sync += index.eq(0)
                with m.If(given):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(header_bytes[index[:3]])]
                with m.If(given & (following == field_bytes(REPLY))):
                    m.d.sync += index.eq(0)
                    with m.If(header.length == 0):
                        m.next = "PAUSE"
                    with m.Else():
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(self.buffer.data)]
                with m.If(given):
                    m.next = "FETCH"
                    with m.If(following == header.length):
                        m.d.sync += index.eq(0)
                        m.next = "PAUSE"
            with m.State("PAUSE"):                      # the checksum is ready a cycle after its last byte
                m.next = "CHECKSUM"
            with m.State("CHECKSUM"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(Mux(index == 0, checksum.crc[8:], checksum.crc[:8])),
                    checksum.valid.eq(0),
                    self.i.ready.eq(self.o.ready & (index == CRC_BYTES - 1)),
                ]
                with m.If(self.i.ready):
                    m.next = "SYNC"
        return m
