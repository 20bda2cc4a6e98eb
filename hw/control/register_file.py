"""The sequencer's registers."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.isa import REGISTERS

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Registers of 32 bits: two asynchronous reads, one write that is seen from the next cycle on.

    A module of its own, so that its wide multiplexers, of which one bit of a number drives hundreds of gates, slow down nothing
    else that looks at the number.

    Members
    -------
    b, c : In(register number), b_data, c_data : Out(32)
        Reads.
    en : In(1), addr : In(register number), data : In(32)
        Write.
    """

    def __init__(self) -> None:
        number = In(range(REGISTERS))
        super().__init__({
            "b": number, "c": number, "b_data": Out(32), "c_data": Out(32), "en": In(1), "addr": number, "data": In(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.words = words = Memory(shape=32, depth=REGISTERS, init=[])
        write = words.write_port()
        m.d.comb += [write.en.eq(self.en), write.addr.eq(self.addr), write.data.eq(self.data)]
        for number, word in ((self.b, self.b_data), (self.c, self.c_data)):
            read = words.read_port(domain="comb")
            m.d.comb += [read.addr.eq(number), word.eq(read.data)]
        return m
