"""A small bus master with the ports of the accelerator: it adds two vectors of bytes in memory and writes a third.

It exercises a memory model as the accelerator does (two read streams with ids of their own, bursts, writes behind reads),
builds in seconds, and can be told to break the rules of the bus.
"""

from typing import Any

from amaranth import *
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.ports import AxiLitePort, AxiReadPort, AxiWritePort
from hw.share import shared

__all__ = ["BURST", "MODES", "REGISTERS", "VectorAdder"]

BURST = 8
DEPTH = 32
REGISTERS = {"START": 0x00, "STATUS": 0x04, "A": 0x08, "B": 0x0C, "SUM": 0x10, "BEATS": 0x14, "MODE": 0x18}
MODES = {"legal": 0, "early_last": 1, "unstable": 2}


class Reader(wiring.Component):
    """Reads `beats` beats from `addr` on into a FIFO, in bursts of at most BURST, with room reserved for each."""

    def __init__(self, bus_width: int):
        self.bus_width = bus_width
        super().__init__({
            "start": In(1), "addr": In(32), "beats": In(16), "error": Out(1),
            "araddr": Out(32), "arlen": Out(8), "arvalid": Out(1), "arready": In(1),
            "rdata": In(bus_width), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
            "data": Out(bus_width), "valid": Out(1), "ready": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.fifo = queue = fifo.SyncFIFOBuffered(width=self.bus_width, depth=DEPTH)
        addr, left = Signal(32), Signal(16)
        credit = Signal(range(DEPTH + 1), init=DEPTH)
        length = Signal(range(BURST + 1))
        issue = self.arvalid & self.arready
        take = self.valid & self.ready
        m.d.comb += [
            length.eq(Mux(left > BURST, BURST, left)),
            self.araddr.eq(addr), self.arlen.eq(length - 1), self.arvalid.eq((left != 0) & (credit >= BURST)),
            queue.w_data.eq(self.rdata), queue.w_en.eq(self.rvalid), self.rready.eq(queue.w_rdy),
            self.data.eq(queue.r_data), self.valid.eq(queue.r_rdy), queue.r_en.eq(self.ready),
        ]
        m.d.sync += credit.eq(credit + take - Mux(issue, length, 0))
        with m.If(self.start):
            m.d.sync += [addr.eq(self.addr), left.eq(self.beats), self.error.eq(0)]
        with m.Elif(issue):
            m.d.sync += [addr.eq(addr + length * (self.bus_width // 8)), left.eq(left - length)]
        with m.If(self.rvalid & (self.rresp != 0)):
            m.d.sync += self.error.eq(1)
        return m


class VectorAdder(wiring.Component):
    """sum[i] = a[i] + b[i] for every byte of BEATS beats; `irq` is high from the last write response to the next start."""

    def __init__(self, bus_width: int):
        self.bus_width = bus_width
        buses = {"m_axi_": (AxiReadPort(bus_width), AxiWritePort(bus_width)), "s_axil_": (AxiLitePort(10),)}
        super().__init__({**{prefix + name: member for prefix, signatures in buses.items()
                             for signature in signatures for name, member in signature.members.items()}, "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size = (self.bus_width // 8 - 1).bit_length()
        start, done, error = Signal(), Signal(), Signal()
        values = {name: Signal(32, name=name.lower()) for name in ("A", "B", "SUM", "BEATS", "MODE")}
        self._registers(m, values, start, Cat(done, error))

        readers = [Reader(self.bus_width), Reader(self.bus_width)]
        for index, (reader, base) in enumerate(zip(readers, (values["A"], values["B"]), strict=True)):
            m.submodules[f"reader{index}"] = shared(platform, f"reader_{self.bus_width}", reader)
            m.d.comb += [reader.start.eq(start), reader.addr.eq(base), reader.beats.eq(values["BEATS"]),
                         reader.rdata.eq(self.m_axi_rdata), reader.rresp.eq(self.m_axi_rresp),
                         reader.rvalid.eq(self.m_axi_rvalid & (self.m_axi_rid == index))]
        turn, locked = Signal(), Signal()      # a request that is on the bus stays there
        chosen = Signal()
        m.d.comb += [
            chosen.eq(Mux(locked, turn, Mux(readers[0].arvalid & readers[1].arvalid, ~turn, readers[1].arvalid))),
            self.m_axi_arid.eq(chosen), self.m_axi_arsize.eq(size), self.m_axi_arburst.eq(1), self.m_axi_arcache.eq(3),
            self.m_axi_araddr.eq(Mux(chosen, readers[1].araddr, readers[0].araddr)),
            self.m_axi_arlen.eq(Mux(chosen, readers[1].arlen, readers[0].arlen)),
            self.m_axi_arvalid.eq(Mux(chosen, readers[1].arvalid, readers[0].arvalid)),
            readers[0].arready.eq(self.m_axi_arready & ~chosen), readers[1].arready.eq(self.m_axi_arready & chosen),
            self.m_axi_rready.eq(Mux(self.m_axi_rid, readers[1].rready, readers[0].rready)),
        ]
        m.d.sync += locked.eq(self.m_axi_arvalid & ~self.m_axi_arready)
        with m.If(self.m_axi_arvalid):
            m.d.sync += turn.eq(chosen)
        self._writer(m, values, readers, size, start, done, error)
        m.d.comb += self.irq.eq(done)
        return m

    def _registers(self, m: Module, values: dict[str, Signal], start: Signal, status: Value) -> None:
        m.d.comb += [
            self.s_axil_awready.eq(self.s_axil_awvalid & self.s_axil_wvalid & ~self.s_axil_bvalid),
            self.s_axil_wready.eq(self.s_axil_awready),
            self.s_axil_arready.eq(~self.s_axil_rvalid),
            start.eq(self.s_axil_awready & (self.s_axil_awaddr == REGISTERS["START"])),
        ]
        m.d.sync += self.s_axil_bvalid.eq(self.s_axil_awready | (self.s_axil_bvalid & ~self.s_axil_bready))
        m.d.sync += self.s_axil_rvalid.eq((self.s_axil_arvalid & self.s_axil_arready)
                                          | (self.s_axil_rvalid & ~self.s_axil_rready))
        for name, value in values.items():
            with m.If(self.s_axil_awready & (self.s_axil_awaddr == REGISTERS[name])):
                m.d.sync += value.eq(self.s_axil_wdata)
        with m.If(self.s_axil_arvalid & self.s_axil_arready), m.Switch(self.s_axil_araddr):
            with m.Case(REGISTERS["STATUS"]):
                m.d.sync += self.s_axil_rdata.eq(status)
            for name, value in values.items():
                with m.Case(REGISTERS[name]):
                    m.d.sync += self.s_axil_rdata.eq(value)
            with m.Default():
                m.d.sync += self.s_axil_rdata.eq(0)

    def _writer(self, m: Module, values: dict[str, Signal], readers: list[Reader], size: int, start: Signal, done: Signal,
                error: Signal) -> None:
        addr, left, beat, length = Signal(32), Signal(16), Signal(8), Signal(range(BURST + 1))
        both = readers[0].valid & readers[1].valid
        early = (values["MODE"] == MODES["early_last"]) & (length > 1) & (beat == length - 2)
        lanes = [(readers[0].data.word_select(i, 8) + readers[1].data.word_select(i, 8))[:8]
                 for i in range(self.bus_width // 8)]
        noise = Signal(8)
        m.d.sync += noise.eq(Mux(values["MODE"] == MODES["unstable"], noise + 1, 0))
        m.d.comb += [
            length.eq(Mux(left > BURST, BURST, left)),
            self.m_axi_awaddr.eq(addr), self.m_axi_awlen.eq(length - 1), self.m_axi_awsize.eq(size),
            self.m_axi_awburst.eq(1), self.m_axi_awcache.eq(3),
            self.m_axi_wdata.eq(Cat(lanes) ^ noise), self.m_axi_wstrb.eq(-1),
            self.m_axi_wlast.eq((beat == length - 1) | early),
            readers[0].ready.eq(self.m_axi_wvalid & self.m_axi_wready),
            readers[1].ready.eq(self.m_axi_wvalid & self.m_axi_wready),
        ]
        with m.If(start):
            m.d.sync += [error.eq(0), done.eq(0)]
        with m.Elif(readers[0].error | readers[1].error):
            m.d.sync += error.eq(1)
        with m.FSM(name="writer"):
            with m.State("IDLE"), m.If(start):
                m.d.sync += [addr.eq(values["SUM"]), left.eq(values["BEATS"])]
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.m_axi_awvalid.eq(left != 0)
                m.d.sync += beat.eq(0)
                with m.If(left == 0):
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"
                with m.Elif(self.m_axi_awready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.m_axi_wvalid.eq(both)
                with m.If(both & self.m_axi_wready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == length - 1):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += self.m_axi_bready.eq(1)
                with m.If(self.m_axi_bvalid):
                    m.d.sync += [addr.eq(addr + length * (self.bus_width // 8)), left.eq(left - length)]
                    with m.If(self.m_axi_bresp != 0):
                        m.d.sync += error.eq(1)
                    m.next = "ADDRESS"
