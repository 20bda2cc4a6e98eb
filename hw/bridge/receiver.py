"""Finds request packets in a stream of bytes and checks them."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bridge.ports import CHECKSUM, BufferWritePort, Request
from hw.bridge.protocol import COMMANDS, CRC_BYTES, MAX_DATA, REQUEST, SYNC, Status, field_bytes
from hw.regs import REGISTER_SPACE

__all__ = ["RequestReceiver"]


class RequestReceiver(wiring.Component):
    """Offers each request when it is complete, or as soon as its header is wrong; takes no byte meanwhile.

    Bytes that are no packet are skipped up to the next sync byte. A request that stops short is forgotten after `timeout` cycles
    without a byte. The first fault counts: BAD_COMMAND, BAD_LENGTH, BAD_ADDRESS (these before any data), BAD_CHECKSUM.

    Parameters
    ----------
    memory_bytes : int
        Size of the memory.
    timeout : int
        Cycles within which the next byte of a request must come.

    Members
    -------
    i : In(stream of 8)
    buffer : Out(BufferWritePort)
        Gets the data.
    o : Out(stream of `Request`)
    """

    def __init__(self, *, memory_bytes: int, timeout: int):
        self.memory_bytes = memory_bytes
        self.timeout = timeout
        super().__init__({
            "i": In(stream.Signature(8)), "buffer": Out(BufferWritePort()), "o": Out(stream.Signature(Request))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.checksum = checksum = CHECKSUM(data_width=8).create()
        header, status = self.o.payload.header, self.o.payload.status
        index = Signal(range(MAX_DATA + 1))             # bytes of this part that have come
        silence = Signal(range(self.timeout + 1))
        inside, taken = Signal(), Signal()              # a packet has begun; a byte is taken
        late = Signal()                                 # its next byte does not come
        fault, has_data = Signal(Status), Signal()
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            late.eq(~taken & (silence == self.timeout)),
            checksum.data.eq(self.i.payload),
            checksum.valid.eq(taken),
            self.buffer.addr.eq(index),
            self.buffer.data.eq(self.i.payload),
        ]
        self._elaborate_check(m, header, fault, has_data)

        m.d.sync += silence.eq(Mux(inside & ~taken, silence + 1, 0))
        with m.If(taken):
            m.d.sync += index.eq(index + 1)
        with m.FSM(name="state"):
            with m.State("HUNT"):
                m.d.comb += [self.i.ready.eq(1), checksum.valid.eq(0), checksum.start.eq(1)]
                m.d.sync += index.eq(0)
                with m.If(taken & (self.i.payload == SYNC)):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [self.i.ready.eq(1), inside.eq(1)]
                with m.If(taken):
                    m.d.sync += header.eq(Cat(header.as_value()[8:], self.i.payload))
                    with m.If(index == field_bytes(REQUEST) - 1):
                        m.next = "CHECK"
                with m.Elif(late):
                    m.next = "HUNT"
            with m.State("CHECK"):
                m.d.comb += inside.eq(1)
                m.d.sync += [index.eq(0), status.eq(fault)]
                with m.If(fault != Status.OK):
                    m.next = "OFFER"
                with m.Elif(has_data):
                    m.next = "DATA"
                with m.Else():
                    m.next = "CHECKSUM"
            with m.State("DATA"):
                m.d.comb += [self.i.ready.eq(1), inside.eq(1), self.buffer.en.eq(taken)]
                with m.If(taken & (index == header.length - 1)):
                    m.d.sync += index.eq(0)
                    m.next = "CHECKSUM"
                with m.Elif(late):
                    m.next = "HUNT"
            with m.State("CHECKSUM"):
                m.d.comb += [self.i.ready.eq(1), inside.eq(1)]
                with m.If(taken & (index == CRC_BYTES - 1)):
                    m.next = "COMPARE"
                with m.Elif(late):
                    m.next = "HUNT"
            with m.State("COMPARE"):
                with m.If(~checksum.match_detected):
                    m.d.sync += status.eq(Status.BAD_CHECKSUM)
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "HUNT"
        return m

    def _elaborate_check(self, m: Module, header: Any, fault: Signal, has_data: Signal) -> None:
        """Say what is wrong with a header, and whether data follow it."""
        sizes = {"memory": self.memory_bytes, "registers": REGISTER_SPACE}
        m.d.comb += fault.eq(Status.BAD_COMMAND)
        with m.Switch(header.command):
            for info in COMMANDS.values():
                with m.Case(info.command):
                    m.d.comb += [has_data.eq(info.to_bridge), fault.eq(Status.OK)]
                    if info.space in sizes:
                        beyond = header.addr + (header.length if info.length is None else 0) > sizes[info.space]
                        with m.If(beyond | (header.addr & (info.unit - 1)).any()):
                            m.d.comb += fault.eq(Status.BAD_ADDRESS)
                    if info.length is None:
                        wrong = (header.length == 0) | (header.length > MAX_DATA) | (header.length & (info.unit - 1)).any()
                    else:
                        wrong = header.length != info.length
                    with m.If(wrong):
                        m.d.comb += fault.eq(Status.BAD_LENGTH)
