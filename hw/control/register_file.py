"""The sequencer's registers."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import REGISTERS
from hw.protect.domains import NONE
from hw.protect.storage import storage, use

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Registers of 32 bits: two asynchronous reads, one write that is seen from the next cycle on.

    A module of its own, so that its wide multiplexers, of which one bit of a number drives hundreds of gates, slow down nothing
    else that looks at the number.

    Parameters
    ----------
    protection : str
        What guards its memory: "none", "parity" or "secded".

    Members
    -------
    b, c : In(register number), b_data, c_data : Out(32)
        Reads.
    en : In(1), addr : In(register number), data : In(32)
        Write.
    used : In(1)
        What is read is made use of; there only with a protection.
    """

    def __init__(self, *, protection: str = NONE) -> None:
        self._protection = protection
        number = In(range(REGISTERS))
        super().__init__({
            "b": number, "c": number, "b_data": Out(32), "c_data": Out(32), "en": In(1), "addr": number, "data": In(32),
            **({} if protection == NONE else {"used": In(1)})})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.words = words = storage(self._protection, shape=32, depth=REGISTERS)
        write = words.write_port()
        m.d.comb += [write.en.eq(self.en), write.addr.eq(self.addr), write.data.eq(self.data)]
        for number, word in ((self.b, self.b_data), (self.c, self.c_data)):
            read = words.read_port(domain="comb")
            m.d.comb += [read.addr.eq(number), word.eq(read.data)]
            if self._protection != NONE:
                use(m, read, self.used)
        return m
