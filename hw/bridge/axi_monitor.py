"""A checker of the rules that the accelerator's buses must keep: one flag, high from the first broken rule on."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.ports import AXI_BURST_INCR, AXI_PAGE_BYTES, AxiLitePort, AxiReadPort, AxiWritePort

__all__ = ["AxiMonitor"]


class AxiMonitor(wiring.Component):
    """Watches what an accelerator drives on its buses.

    Rules: what is offered stays as it is until it is taken, on every channel; bursts are INCR of full beats, aligned, and do
    not cross 4 KiB; `wlast` marks the last beat of its burst, and no data come without a burst; the register slave
    answers only what was asked. For memories that take data after their address, one burst at a time, as `AxiMemory` does.

    Parameters
    ----------
    bus_width : int
        Of the master, in bits.
    addr_width : int
        Of the register slave.

    Members
    -------
    read, write : In
        All members of the master's `AxiReadPort` and `AxiWritePort`, as inputs.
    registers : In
        Likewise of the `AxiLitePort`.
    violation : Out(1)
        High from the cycle after the first broken rule on.
    """

    def __init__(self, *, bus_width: int, addr_width: int):
        self.bus_width = bus_width

        def watched(signature: Any) -> Any:
            return In(wiring.Signature({name: Out(member.shape) for name, member in signature.members.items()}))

        super().__init__({
            "read": watched(AxiReadPort(bus_width)), "write": watched(AxiWritePort(bus_width)),
            "registers": watched(AxiLitePort(addr_width)), "violation": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        broken = [*(self._unstable(m, bus, name, channel) for bus, name, channel in (
                      (self.read, "read", "ar"), (self.write, "write", "aw"), (self.write, "write", "w"),
                      (self.registers, "registers", "b"), (self.registers, "registers", "r"))),
                  self._illegal(self.read, "ar"), self._illegal(self.write, "aw"), *self._data(m), *self._answers(m)]
        with m.If(Cat(broken).any()):
            m.d.sync += self.violation.eq(1)
        return m

    def _unstable(self, m: Module, bus: Any, name: str, channel: str) -> Value:
        """Return whether something offered in the last cycle and not taken has changed or gone."""
        valid, ready = getattr(bus, f"{channel}valid"), getattr(bus, f"{channel}ready")
        offered = Cat(getattr(bus, member) for member in bus.signature.members
                      if member.startswith(channel) and member not in (f"{channel}valid", f"{channel}ready"))
        waiting = Signal(name=f"{name}_{channel}_waiting")
        before = Signal(len(offered), name=f"{name}_{channel}_before", reset_less=True)
        m.d.sync += [waiting.eq(valid & ~ready), before.eq(offered)]
        return waiting & (~valid | (offered != before))

    def _illegal(self, bus: Any, channel: str) -> Value:
        """Return whether an address is offered with a burst that our memories do not take."""
        valid, addr, length, size, burst = (getattr(bus, channel + name) for name in ("valid", "addr", "len", "size", "burst"))
        beat_log2 = ceil_log2(self.bus_width // 8)
        page_log2 = ceil_log2(AXI_PAGE_BYTES)
        last = addr[beat_log2:page_log2] + length
        return valid & ((size != beat_log2) | (burst != AXI_BURST_INCR) | (addr[:beat_log2] != 0)
                        | (last >> (page_log2 - beat_log2) != 0))

    def _data(self, m: Module) -> list[Value]:
        """Return whether data come without a burst, or their last beat is not where the burst ends."""
        bus = self.write
        open_burst = Signal()
        left = Signal(8)
        taken = bus.wvalid & bus.wready
        with m.If(taken):
            m.d.sync += left.eq(left - 1)
            with m.If(bus.wlast):
                m.d.sync += open_burst.eq(0)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [open_burst.eq(1), left.eq(bus.awlen)]
        return [taken & ~open_burst, taken & (bus.wlast != (left == 0))]

    def _answers(self, m: Module) -> list[Value]:
        """Return whether the register slave answers what nobody asked."""
        bus = self.registers
        addressed, written, asked = Signal(), Signal(), Signal()
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += [addressed.eq(0), written.eq(0)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += addressed.eq(1)
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += written.eq(1)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += asked.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += asked.eq(1)
        return [bus.bvalid & ~(addressed & written), bus.rvalid & ~asked]
