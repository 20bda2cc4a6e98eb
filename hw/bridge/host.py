"""The host bridge: packets of bytes in, memory and registers read and written, packets of bytes out."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from hw.bridge.executor import RequestExecutor
from hw.bridge.ports import BytePort
from hw.bridge.protocol import MAX_DATA, PROTOCOL_VERSION
from hw.bridge.receiver import RequestReceiver
from hw.bridge.sender import ReplySender
from hw.config import ceil_log2
from hw.errors import ConfigError
from hw.memory.bank import MemoryBank
from hw.ports import AxiLitePort
from hw.regs import REGISTER_SPACE

__all__ = ["HostBridge"]


class HostBridge(wiring.Component):
    """Serves the host protocol of `hw.bridge.protocol`: one request at a time, a reply to each.

    The data of a request lie in a buffer until its checksum is known to be right, so a damaged packet changes nothing. While
    a request is executed and answered, no byte is taken: the host waits for the reply, or for longer than it can take.

    Parameters
    ----------
    memory_bytes : int
        Size of the memory; a power of two.
    clock_hz : int
        Told to the host.
    config_digest : str
        Told to the host: the first 12 hexadecimal digits.
    timeout : int
        Cycles without a byte after which a request that is not complete is forgotten.

    Members
    -------
    i : In(stream of 8), o : Out(stream of 8)
        Requests and replies.
    memory : Out(BytePort)
    registers : In(AxiLitePort)
        Directions of the slave, so this is its master.
    reset : Out(1)
        High for 16 cycles at the command RESET.

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """

    def __init__(self, *, memory_bytes: int, clock_hz: int, config_digest: str, timeout: int):
        for name, value, low, high in (("memory_bytes", memory_bytes, 16, 1 << 31), ("clock_hz", clock_hz, 1, (1 << 32) - 1),
                                       ("timeout", timeout, 16, (1 << 32) - 1)):
            if not low <= value <= high:
                raise ConfigError(f"HostBridge.{name} must be between {low} and {high}, not {value!r}")
        self.memory_bytes, self.timeout = memory_bytes, timeout
        self.info = {"version": PROTOCOL_VERSION, "memory_bytes": memory_bytes, "clock_hz": clock_hz,
                     "config_digest": int.from_bytes(bytes.fromhex(config_digest[:12]), "little")}
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(8)),
            "memory": Out(BytePort(ceil_log2(memory_bytes))),
            "registers": In(AxiLitePort(ceil_log2(REGISTER_SPACE))),
            "reset": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.receiver = receiver = RequestReceiver(memory_bytes=self.memory_bytes, timeout=self.timeout)
        m.submodules.executor = executor = RequestExecutor(memory_bytes=self.memory_bytes, info=self.info)
        m.submodules.sender = sender = ReplySender()
        m.submodules.buffer = buffer = MemoryBank(depth=MAX_DATA, width=8)

        connect(m, source=wiring.flipped(self.i), receiver=receiver.i)
        connect(m, receiver=receiver.o, executor=executor.i)
        connect(m, executor=executor.o, sender=sender.i)
        connect(m, sender=sender.o, sink=wiring.flipped(self.o))
        connect(m, executor=executor.memory, memory=wiring.flipped(self.memory))
        connect(m, executor=executor.registers, registers=wiring.flipped(self.registers))
        m.d.comb += self.reset.eq(executor.reset)

        # Receiver, executor and sender use the buffer one after the other; the executor's reads end before the sender's begin.
        filling = receiver.buffer.en
        m.d.comb += [
            buffer.write_addr.eq(Mux(filling, receiver.buffer.addr, executor.sink.addr)),
            buffer.write_data.eq(Mux(filling, receiver.buffer.data, executor.sink.data)),
            buffer.write_en.eq(filling | executor.sink.en),
            buffer.read_addr.eq(Mux(sender.i.valid, sender.buffer.addr, executor.source.addr)),
            buffer.read_en.eq(1),
            executor.source.data.eq(buffer.read_data),
            sender.buffer.data.eq(buffer.read_data),
        ]
        return m
