"""The read arbiter: the load unit and the instruction fetch share one AXI4 read port."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.ports import AXI_FETCH_ID, AXI_LOAD_ID, AxiReadPort

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Combinational AXI4 read arbiter: fetch before load, an address that is up stays; beats are routed by their id.

    Each master's own ids are ignored and come back as they are on the bus.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load : In(AxiReadPort)
        Gets id 0.
    fetch : In(AxiReadPort)
        Gets id 1.
    bus : Out(AxiReadPort)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "load": In(AxiReadPort(config.bus_width)),
            "fetch": In(AxiReadPort(config.bus_width)),
            "bus": Out(AxiReadPort(config.bus_width)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus = self.bus

        held = Signal()                     # an address is up and was not taken: its owner stays
        held_fetch = Signal()
        fetching = Signal()
        m.d.comb += fetching.eq(Mux(held, held_fetch, self.fetch.arvalid))
        m.d.sync += [held.eq(bus.arvalid & ~bus.arready), held_fetch.eq(fetching)]

        for port, chosen in ((self.fetch, fetching), (self.load, ~fetching)):
            with m.If(chosen):
                m.d.comb += [getattr(bus, name).eq(getattr(port, name))
                             for name in ("arvalid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot")]
                m.d.comb += port.arready.eq(bus.arready)
        m.d.comb += bus.arid.eq(Mux(fetching, AXI_FETCH_ID, AXI_LOAD_ID))

        for port, number in ((self.load, AXI_LOAD_ID), (self.fetch, AXI_FETCH_ID)):
            m.d.comb += [getattr(port, name).eq(getattr(bus, name)) for name in ("rid", "rdata", "rresp", "rlast")]
            with m.If(bus.rid == number):
                m.d.comb += [port.rvalid.eq(bus.rvalid), bus.rready.eq(port.rready)]
        return m
