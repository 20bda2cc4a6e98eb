"""An accelerator with all that a run needs around it, in hardware: a closed design that faults are injected into."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bridge.axi_monitor import AxiMonitor
from hw.bridge.memory import AxiMemory
from hw.bridge.script_host import ScriptHost
from hw.config import AcceleratorConfig, ceil_log2
from hw.ports import AxiLitePort, AxiReadPort, AxiWritePort
from hw.regs import REGISTER_SPACE
from hw.top import Accelerator

__all__ = ["FaultBench", "bus_channels"]


def bus_channels(config: AcceleratorConfig) -> dict[str, dict[str, wiring.Member]]:
    """Return the channels of the accelerator's buses: `m_axi_ar`, … → name of each member without the bus's prefix → member."""
    found: dict[str, dict[str, wiring.Member]] = {}
    for prefix, signature in (("m_axi", AxiReadPort(config.bus_width)), ("m_axi", AxiWritePort(config.bus_width)),
                              ("s_axil", AxiLitePort(ceil_log2(REGISTER_SPACE)))):
        for name, member in signature.members.items():
            channel = next(c for c in ("ar", "aw", "r", "w", "b") if name.startswith(c))
            found.setdefault(f"{prefix}_{channel}", {})[name] = member
    return found


class FaultBench(wiring.Component):
    """Accelerator `dut`, DRAM `dram`, host `host` and checker `monitor`; no inputs but the taps.

    The host's script and the DRAM's contents are loaded from outside, before the first cycle. The monitor sees what the
    accelerator drives, before any tap.

    Parameters
    ----------
    config : AcceleratorConfig
    dram_bytes : int
        Size of the DRAM, a power of two.

    Members
    -------
    done : Out(1)
        The host has played its script.
    detected, corrected : Out(1)
        What the host has read of errors.
    violation : Out(1)
        The accelerator has broken a rule of a bus.
    tap_m_axi_ar, … : In
        For each channel of the buses: XORed into its members, `valid` and `ready` included, the first one lowest.

    Raises
    ------
    ConfigError
        If the size is none.
    """

    def __init__(self, config: AcceleratorConfig, *, dram_bytes: int):
        self.config = config
        self.dram_bytes = dram_bytes
        self._dram = AxiMemory(size=dram_bytes, bus_width=config.bus_width)
        super().__init__({
            **{name: Out(1) for name in ("done", "detected", "corrected", "violation")},
            **{f"tap_{channel}": In(sum(Shape.cast(member.shape).width for member in members.values()))
               for channel, members in bus_channels(config).items()}})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = Accelerator(self.config)
        m.submodules.dram = dram = self._dram
        m.submodules.host = host = ScriptHost()
        m.submodules.monitor = monitor = AxiMonitor(
            bus_width=self.config.bus_width, addr_width=len(host.registers.awaddr))

        for channel, members in bus_channels(self.config).items():
            tap, low = getattr(self, f"tap_{channel}"), 0
            for name, member in members.items():
                inner = getattr(dut, f"{'_'.join(channel.split('_')[:-1])}_{name}")
                if channel.startswith("s_axil"):
                    outer, watched = getattr(host.registers, name), getattr(monitor.registers, name)
                elif channel in ("m_axi_ar", "m_axi_r"):
                    outer, watched = getattr(dram.read, name), getattr(monitor.read, name)
                else:
                    outer, watched = getattr(dram.write, name), getattr(monitor.write, name)
                source, sink = (inner, outer) if member.flow is Out else (outer, inner)     # flow of the accelerator
                m.d.comb += [sink.eq(source ^ tap[low:low + len(sink)]), watched.eq(inner)]
                low += len(sink)

        m.d.comb += [
            host.irq.eq(dut.irq),
            self.done.eq(host.done), self.detected.eq(host.detected), self.corrected.eq(host.corrected),
            self.violation.eq(monitor.violation),
        ]
        return m
