"""Does what a request asks for: memory and registers, a byte or a register at a time."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bridge.ports import BufferReadPort, BufferWritePort, BytePort, Reply, Request, packed
from hw.bridge.protocol import COMMANDS, INFO, MAX_DATA, Command, Status
from hw.config import ceil_log2
from hw.ports import AxiLitePort
from hw.regs import REGISTER_SPACE

__all__ = ["RESET_CYCLES", "RequestExecutor"]

RESET_CYCLES = 16


class RequestExecutor(wiring.Component):
    """Executes one request and offers its reply; the request is taken together with the reply.

    Two cycles for a byte of memory read or written, one for a byte cleared, about ten for a register. A request with a fault
    is only answered. So is a WRITE_REGISTERS whose tag is that of the WRITE_REGISTERS right before: the host has missed the
    reply and asks again, and the doorbell must not ring twice.

    Parameters
    ----------
    memory_bytes : int
        Size of the memory.
    info : dict of str to int
        Values of the fields of `INFO`.

    Members
    -------
    i : In(stream of `Request`), o : Out(stream of `Reply`)
    source : Out(BufferReadPort), sink : Out(BufferWritePort)
        The packet buffer.
    memory : Out(BytePort)
    registers : In(AxiLitePort)
        Directions of the slave, so this is its master.
    reset : Out(1)
        High for 16 cycles at RESET.
    """

    def __init__(self, *, memory_bytes: int, info: dict[str, int]):
        self.memory_bytes = memory_bytes
        self.info = info
        super().__init__({
            "i": In(stream.Signature(Request)), "o": Out(stream.Signature(Reply)),
            "source": Out(BufferReadPort()), "sink": Out(BufferWritePort()),
            "memory": Out(BytePort(ceil_log2(memory_bytes))), "registers": In(AxiLitePort(ceil_log2(REGISTER_SPACE))),
            "reset": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        header = self.i.payload.header
        self._index = index = Signal(range(MAX_DATA + 1))               # bytes done
        self._addr = addr = Signal(32)
        self._word = word = Signal(32)
        self._following = following = Signal.like(index)
        m.d.comb += [
            following.eq(index + 1),
            self.source.addr.eq(index),
            self.sink.addr.eq(index),
            self.memory.addr.eq(addr),
            self.registers.awaddr.eq(addr), self.registers.araddr.eq(addr),
            self.registers.wdata.eq(word), self.registers.wstrb.eq(0b1111),
            self.o.payload.tag.eq(header.tag),
        ]
        wrote, wrote_tag = Signal(), Signal(8)          # the last request wrote registers
        wrote_status = Signal(Status)
        self._status = status = Signal(Status)
        with m.Switch(header.command):
            for info in COMMANDS.values():
                if info.to_host:
                    with m.Case(info.command):
                        m.d.comb += self.o.payload.length.eq(Mux(status == Status.OK, header.length, 0))
        m.d.comb += self.o.payload.status.eq(status)

        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), addr.eq(header.addr), status.eq(self.i.payload.status)]
                with m.If(self.i.valid):
                    m.next = "REPLY"
                    with m.If(self.i.payload.status == Status.OK):
                        with m.Switch(header.command):
                            with m.Case(Command.INFO):
                                m.next = "INFO"
                            with m.Case(Command.READ_MEMORY):
                                m.next = "READ_MEMORY"
                            with m.Case(Command.WRITE_MEMORY):
                                m.next = "FETCH_BYTE"
                            with m.Case(Command.READ_REGISTERS):
                                m.next = "READ_REGISTER"
                            with m.Case(Command.RESET):
                                m.next = "RESET"
                            with m.Case(Command.CLEAR_MEMORY):
                                m.next = "FETCH_WORD"
                            with m.Case(Command.WRITE_REGISTERS):
                                with m.If(wrote & (wrote_tag == header.tag)):
                                    m.d.sync += status.eq(wrote_status)
                                with m.Else():
                                    m.next = "FETCH_WORD"
            self._elaborate_memory(m, header)
            self._elaborate_registers(m, header)
            with m.State("INFO"):
                values = packed(INFO).const(self.info).as_value()
                m.d.comb += [self.sink.en.eq(1), self.sink.data.eq(values.word_select(index[:ceil_log2(len(values) // 8)], 8))]
                m.d.sync += index.eq(following)
                with m.If(following == header.length):
                    m.next = "REPLY"
            with m.State("RESET"):
                m.d.comb += self.reset.eq(1)
                m.d.sync += index.eq(following)
                with m.If(following == RESET_CYCLES):
                    m.next = "REPLY"
            with m.State("REPLY"):
                m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
                    # A damaged request is no request: what the host repeats after it is still the same write.
                    with m.If(self.i.payload.status == Status.OK):
                        m.d.sync += [wrote.eq(header.command == Command.WRITE_REGISTERS), wrote_tag.eq(header.tag),
                                     wrote_status.eq(status)]
        return m

    def _elaborate_memory(self, m: Module, header: Any) -> None:
        with m.State("READ_MEMORY"):
            m.d.comb += self.memory.valid.eq(1)
            with m.If(self.memory.ready):
                m.next = "KEEP_BYTE"
        with m.State("KEEP_BYTE"):
            m.d.comb += [self.sink.en.eq(1), self.sink.data.eq(self.memory.read_data)]
            m.d.sync += [self._index.eq(self._following), self._addr.eq(self._addr + 1)]
            m.next = "READ_MEMORY"
            with m.If(self._following == header.length):
                m.next = "REPLY"
        with m.State("FETCH_BYTE"):
            m.next = "WRITE_MEMORY"
        with m.State("WRITE_MEMORY"):
            m.d.comb += [self.memory.valid.eq(1), self.memory.write.eq(1), self.memory.write_data.eq(self.source.data)]
            with m.If(self.memory.ready):
                m.d.sync += [self._index.eq(self._following), self._addr.eq(self._addr + 1)]
                m.next = "FETCH_BYTE"
                with m.If(self._following == header.length):
                    m.next = "REPLY"
        with m.State("CLEAR_MEMORY"):                   # `word` is how many bytes are left
            with m.If(self._word == 0):
                m.next = "REPLY"
            with m.Elif(self._addr == self.memory_bytes):
                m.d.sync += self._status.eq(Status.BAD_ADDRESS)
                m.next = "REPLY"
            with m.Else():
                m.d.comb += [self.memory.valid.eq(1), self.memory.write.eq(1)]
                with m.If(self.memory.ready):
                    m.d.sync += [self._word.eq(self._word - 1), self._addr.eq(self._addr + 1)]

    def _elaborate_registers(self, m: Module, header: Any) -> None:
        bus, word, index = self.registers, self._word, self._index
        addressed, written = Signal(), Signal()
        part = Signal(2)                                # of the word

        def next_register(response: Value, proceed: str) -> None:
            """After an answer: the next register, or the end."""
            m.d.sync += self._addr.eq(self._addr + 4)
            m.next = proceed
            with m.If(response != 0):
                m.d.sync += self._status.eq(Status.BUS_ERROR)
                m.next = "REPLY"

        with m.State("FETCH_WORD"):
            m.next = "TAKE_BYTE"
        with m.State("TAKE_BYTE"):
            m.d.sync += [word.eq(Cat(word[8:], self.source.data)), index.eq(self._following), part.eq(part + 1)]
            m.next = "FETCH_WORD"
            with m.If(part == 3):
                m.d.sync += [addressed.eq(0), written.eq(0)]
                m.next = "WRITE_REGISTER"
                with m.If(header.command == Command.CLEAR_MEMORY):
                    m.next = "CLEAR_MEMORY"
        with m.State("WRITE_REGISTER"):
            m.d.comb += [bus.awvalid.eq(~addressed), bus.wvalid.eq(~written), bus.bready.eq(1)]
            m.d.sync += [addressed.eq(addressed | bus.awready), written.eq(written | bus.wready)]
            with m.If(bus.bvalid):
                next_register(bus.bresp, "FETCH_WORD")
                with m.If((bus.bresp == 0) & (index == header.length)):
                    m.next = "REPLY"
        with m.State("READ_REGISTER"):
            m.d.comb += bus.arvalid.eq(1)
            with m.If(bus.arready):
                m.next = "AWAIT_REGISTER"
        with m.State("AWAIT_REGISTER"):
            m.d.comb += bus.rready.eq(1)
            m.d.sync += word.eq(bus.rdata)
            with m.If(bus.rvalid):
                next_register(bus.rresp, "KEEP_REGISTER")
        with m.State("KEEP_REGISTER"):
            m.d.comb += [self.sink.en.eq(1), self.sink.data.eq(word[:8])]
            m.d.sync += [word.eq(word >> 8), index.eq(self._following), part.eq(part + 1)]
            with m.If(part == 3):
                m.next = "READ_REGISTER"
                with m.If(self._following == header.length):
                    m.next = "REPLY"
