"""AXI4-Lite register bank, made from a table of registers."""

from collections.abc import Collection, Sequence
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.ports import AxiLitePort
from hw.regs import REGISTER_SPACE, REGISTERS, Register

__all__ = ["CsrBank", "register_layout"]

OKAY, SLVERR = 0, 2


def register_layout(register: Register) -> data.StructLayout:
    """Return the fields of a register as a packed layout, from bit 0 up."""
    return data.StructLayout({field.name: field.width for field in register.fields})


class CsrBank(wiring.Component):
    """Registers behind an AXI4-Lite slave.

    One write and one read at a time. A write takes effect one cycle after the later of AW and W was taken, whichever comes first;
    a read samples its register in the cycle in which AR is taken. At best one write in three cycles and one read in two.
    Byte strobes select the bytes written; bits outside the fields read as zero. A register outside the table, and a write
    to an "R" register, answer SLVERR and change nothing; a "W" register reads as zero. The low two address bits are ignored.

    Parameters
    ----------
    registers : sequence of Register
        The table.
    absent : collection of str
        Names of "RW1C" registers that nothing sets: they read as zero, take writes and have no flip-flops.

    Members
    -------
    bus : Out(AxiLitePort)
        The slave.
    hold : In(1)
        While high, no write takes effect (it waits).
    <name> : for each register, in lower case, its layout
        "R": In, what is read (unconnected, it keeps the reset value). "RW": Out, what was written.
        "W": Out, high for the one cycle of the write. "RW1C": Out, the bits that are set.
    <name>_set : In(layout), for each "RW1C" register
        Bits to set; setting wins over clearing.
    """

    def __init__(self, registers: Sequence[Register] = REGISTERS, absent: Collection[str] = ()):
        self.registers = tuple(registers)
        self.absent = frozenset(absent)
        members: dict[str, Any] = {"bus": Out(AxiLitePort(ceil_log2(REGISTER_SPACE))), "hold": In(1)}
        for register in self.registers:
            layout, name = register_layout(register), register.name.lower()
            init = layout.from_bits(register.reset)
            members[name] = In(layout, init=init) if register.access == "R" else Out(layout, init=init)
            if register.access == "RW1C":
                members[f"{name}_set"] = In(layout)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._elaborate_write(m)
        self._elaborate_read(m)
        return m

    def _elaborate_write(self, m: Module) -> None:
        bus = self.bus
        addr = Signal.like(bus.awaddr)
        addr_full = Signal()
        word = Signal.like(bus.wdata)
        strobes = Signal.like(bus.wstrb)
        word_full = Signal()
        write, legal = Signal(), Signal()
        mask = Signal(32)
        m.d.comb += [
            bus.awready.eq(~addr_full),
            bus.wready.eq(~word_full),
            write.eq(addr_full & word_full & ~bus.bvalid & ~self.hold),
            mask.eq(Cat(strobe.replicate(8) for strobe in strobes)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [addr.eq(bus.awaddr), addr_full.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [word.eq(bus.wdata), strobes.eq(bus.wstrb), word_full.eq(1)]

        clears = {r.name: Signal(32, name=f"{r.name.lower()}_clear") for r in self.registers if r.access == "RW1C"}
        with m.Switch(addr[2:]):
            for register in self.registers:
                if register.access == "R":
                    continue
                value = Value.cast(getattr(self, register.name.lower()))
                with m.Case(register.offset >> 2):
                    m.d.comb += legal.eq(1)
                    with m.If(write):
                        if register.access == "RW":
                            m.d.sync += value.eq((value & ~mask) | (word & mask))
                        elif register.access == "W":
                            m.d.comb += value.eq(word & mask)
                        else:
                            m.d.comb += clears[register.name].eq(word & mask)
        for register in self.registers:
            if register.access == "RW1C" and register.name not in self.absent:
                value = Value.cast(getattr(self, register.name.lower()))
                events = Value.cast(getattr(self, f"{register.name.lower()}_set"))
                m.d.sync += value.eq((value & ~clears[register.name]) | events)

        with m.If(write):
            m.d.sync += [addr_full.eq(0), word_full.eq(0), bus.bvalid.eq(1), bus.bresp.eq(Mux(legal, OKAY, SLVERR))]
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)

    def _elaborate_read(self, m: Module) -> None:
        bus = self.bus
        m.d.comb += bus.arready.eq(~bus.rvalid)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0), bus.rresp.eq(OKAY)]
            with m.Switch(bus.araddr[2:]):
                for register in self.registers:
                    with m.Case(register.offset >> 2):
                        if register.access != "W":
                            m.d.sync += bus.rdata.eq(Value.cast(getattr(self, register.name.lower())))
                with m.Default():
                    m.d.sync += bus.rresp.eq(SLVERR)
