"""The accelerator: a config becomes blocks and connections, nothing else."""

from typing import Any

from amaranth import *
from amaranth.hdl import Fragment
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hw.array import ENGINES
from hw.config import AcceleratorConfig, ceil_log2
from hw.control.controller import Controller
from hw.errors import ConfigError
from hw.memory.accumulator import Accumulator
from hw.memory.arbiter import ReadArbiter
from hw.memory.lane_accumulator import LaneAccumulator
from hw.memory.load import LoadUnit
from hw.memory.scratchpad import Scratchpad
from hw.memory.store import StoreUnit
from hw.pe import PE_TYPES
from hw.ports import AxiLitePort, AxiReadPort, AxiWritePort
from hw.protect.domains import BLOCKS
from hw.protect.harden import harden
from hw.regs import REGISTER_SPACE
from hw.vector.unit import VectorUnit

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """One array accelerator: AXI4 master, AXI4-Lite slave, interrupt.

    Parameters
    ----------
    config : AcceleratorConfig
        What to build.

    Members
    -------
    m_axi_* : AXI4 master of `config.bus_width` bits, `hw.ports.AxiReadPort` and `AxiWritePort`
    s_axil_* : AXI4-Lite slave of 32 bits with the registers of `hw.regs`
    irq : Out(1)
        High while an enabled event of IRQ_STATUS is set.

    Raises
    ------
    ConfigError
        If the config names an engine or a processing element that is not registered; when it is elaborated, if a rule of
        `config.protection` matches nothing.
    """

    def __init__(self, config: AcceleratorConfig):
        if config.engine not in ENGINES:
            raise ConfigError(f"AcceleratorConfig.engine must be one of {', '.join(ENGINES)}, not {config.engine!r}")
        if config.pe not in PE_TYPES:
            raise ConfigError(f"AcceleratorConfig.pe must be one of {', '.join(PE_TYPES)}, not {config.pe!r}")
        self.config = config
        self._buses = {
            "m_axi_": (AxiReadPort(config.bus_width), AxiWritePort(config.bus_width)),
            "s_axil_": (AxiLitePort(ceil_log2(REGISTER_SPACE)),),
        }
        ports = {prefix + name: member for prefix, signatures in self._buses.items()
                 for signature in signatures for name, member in signature.members.items()}
        super().__init__({**ports, "irq": Out(1)})

    def _attach(self, m: Module, prefix: str, inner: Any) -> None:
        """Wire the flat ports that start with `prefix` to the block's bus port `inner` of the same direction."""
        for name, member in inner.signature.members.items():
            outer = getattr(self, prefix + name)
            if member.flow is Out:
                m.d.comb += outer.eq(getattr(inner, name))
            else:
                m.d.comb += getattr(inner, name).eq(outer)

    def elaborate(self, platform: Any) -> Elaboratable | Fragment:
        m = Module()
        config = self.config

        m.submodules.controller = controller = Controller(config)
        m.submodules.load = load = LoadUnit(config)
        m.submodules.store = store = StoreUnit(config)
        m.submodules.arbiter = arbiter = ReadArbiter(config)
        m.submodules.accumulator = accumulator = (LaneAccumulator if config.lane_rows else Accumulator)(config)
        m.submodules.engine = engine = ENGINES[config.engine](config)
        m.submodules.vector = vector = VectorUnit(config)
        readers = (engine.activation, engine.weight, *vector.reads, store.read)
        m.submodules.scratchpad = scratchpad = Scratchpad(config, readers=len(readers), writers=2)

        connect(m, queue=controller.load, unit=load.unit)
        connect(m, queue=controller.matrix, unit=engine.unit)
        connect(m, queue=controller.vector, unit=vector.unit)
        connect(m, queue=controller.store, unit=store.unit)

        for index, port in enumerate(readers):
            connect(m, reader=port, scratchpad=scratchpad.readers[index])
        for index, port in enumerate((load.write, vector.write)):
            connect(m, writer=port, scratchpad=scratchpad.writers[index])
        connect(m, engine=engine.acc, accumulator=accumulator.write)
        if config.weight_stream:
            connect(m, load=load.stream, engine=engine.weight_stream)
        connect(m, vector=vector.acc, accumulator=accumulator.read)

        connect(m, unit=load.bus, arbiter=arbiter.load)
        connect(m, fetch=controller.fetch, arbiter=arbiter.fetch)
        self._attach(m, "m_axi_", arbiter.bus)
        self._attach(m, "m_axi_", store.bus)
        self._attach(m, "s_axil_", controller.s_axil)

        m.d.comb += [
            controller.load_beat.eq(load.beat),
            controller.store_beat.eq(store.beat),
            controller.store_bytes.eq(store.bytes_written),
            controller.matrix_active.eq(engine.active),
            controller.matrix_result.eq(engine.acc.valid),
            controller.vector_write.eq(vector.write.valid & vector.write.ready),
            controller.macs.eq(engine.macs),
            controller.macs_gated.eq(engine.macs_gated),
            controller.saturated.eq(accumulator.saturated),
            *(getattr(controller, name).eq(getattr(engine, name)) for name in config.engine_counters),
            self.irq.eq(controller.irq),
        ]
        if not config.protection:
            return m
        return harden(m, config.protection, platform, {
            block: (controller.protect_detected[bit], controller.protect_corrected[bit]) for bit, block in enumerate(BLOCKS)})
