"""A board in small: pins, a block RAM and a multiplier."""

from functools import cache

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from flows.emit import to_verilog
from hw.bridge.uart_receiver import UartReceiver
from hw.bridge.uart_transmitter import UartTransmitter
from hw.memory.bank import MemoryBank

__all__ = ["Echo", "echo"]


class Echo(wiring.Component):
    """What a board has for pins, a block RAM and a multiplier, and little else."""

    def __init__(self):
        super().__init__({"rx": In(1), "tx": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(8)
        m.submodules.transmitter = transmitter = UartTransmitter(8)
        m.submodules.bank = bank = MemoryBank(depth=512, width=8)
        connect(m, receiver=receiver.o, transmitter=transmitter.i)
        product = Signal(16)
        last = Signal(8)
        with m.If(receiver.o.valid):
            m.d.sync += [last.eq(receiver.o.payload), product.eq(receiver.o.payload * last)]
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), self.irq.eq(product.xor() ^ bank.read_data.xor()),
            bank.write_addr.eq(product), bank.write_data.eq(last), bank.write_en.eq(receiver.o.valid), bank.read_addr.eq(last),
            bank.read_en.eq(1),
        ]
        return m


@cache
def echo():
    return to_verilog(Echo(), "echo")
