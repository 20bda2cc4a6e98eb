"""A whole board: accelerator, on-chip memory in place of DRAM, and the host bridge."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.bridge.config import BoardConfig
from hw.bridge.host import HostBridge
from hw.bridge.memory import AxiMemory
from hw.bridge.uart_receiver import UartReceiver
from hw.bridge.uart_transmitter import UartTransmitter
from hw.config import AcceleratorConfig
from hw.ports import AxiLitePort, AxiReadPort, AxiWritePort
from hw.top import Accelerator

__all__ = ["Board"]


class Board(wiring.Component):
    """What a host reaches through two wires.

    Parameters
    ----------
    config : AcceleratorConfig
    board : BoardConfig

    Members
    -------
    rx : In(1), tx : Out(1)
        With link "uart".
    s_axis_tdata, s_axis_tvalid, s_axis_tready, m_axis_tdata, m_axis_tvalid, m_axis_tready
        With link "axis": requests in, replies out.
    irq : Out(1)
        The accelerator's interrupt: for a light.
    """

    def __init__(self, config: AcceleratorConfig, board: BoardConfig):
        self.config = config
        self.board = board
        uart = {"rx": In(1, init=1), "tx": Out(1, init=1)}
        axis = {"s_axis_tdata": In(8), "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
                "m_axis_tdata": Out(8), "m_axis_tvalid": Out(1), "m_axis_tready": In(1)}
        super().__init__({**(uart if board.link == "uart" else axis), "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, board = self.config, self.board
        bridge = HostBridge(memory_bytes=board.memory_bytes, clock_hz=board.clock_hz, config_digest=config.digest(),
                            timeout=board.timeout)
        accelerator, memory = Accelerator(config), AxiMemory(size=board.memory_bytes, bus_width=config.bus_width)
        m.submodules.bridge = bridge
        m.submodules.accelerator = ResetInserter(bridge.reset)(accelerator)
        m.submodules.memory = ResetInserter(bridge.reset)(memory)

        connect(m, bridge=bridge.memory, memory=memory.host)
        for prefix, inner, signature in (("m_axi_", memory.read, AxiReadPort(config.bus_width)),
                                         ("m_axi_", memory.write, AxiWritePort(config.bus_width)),
                                         ("s_axil_", bridge.registers, AxiLitePort(len(bridge.registers.awaddr)))):
            for name, member in signature.members.items():
                outer, here = getattr(accelerator, prefix + name), getattr(inner, name)
                m.d.comb += here.eq(outer) if member.flow is Out else outer.eq(here)      # flow of the accelerator
        m.d.comb += self.irq.eq(accelerator.irq)
        self._elaborate_link(m, bridge)
        return m

    def _elaborate_link(self, m: Module, bridge: HostBridge) -> None:
        if self.board.link == "axis":
            m.d.comb += [
                bridge.i.payload.eq(self.s_axis_tdata),
                bridge.i.valid.eq(self.s_axis_tvalid),
                self.s_axis_tready.eq(bridge.i.ready),
                self.m_axis_tdata.eq(bridge.o.payload),
                self.m_axis_tvalid.eq(bridge.o.valid),
                bridge.o.ready.eq(self.m_axis_tready),
            ]
            return
        m.submodules.receiver = receiver = UartReceiver(self.board.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self.board.divisor)
        connect(m, receiver=receiver.o, bridge=bridge.i)
        connect(m, bridge=bridge.o, transmitter=transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
