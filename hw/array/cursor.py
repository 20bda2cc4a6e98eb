"""A cursor over operand slots in the scratchpad: adds strides, sees the end."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2

__all__ = ["SlotCursor"]


class SlotCursor(wiring.Component):
    """Running byte address of a slot, split as the scratchpad needs it. Outputs follow `restart` and `step` by one cycle.

    Parameters
    ----------
    config : AcceleratorConfig
    slot_bytes : int
        Size of a slot; a power of two, at most a line.

    Members
    -------
    restart : In(1), base : In(running address)
        Go to `base`; wins over `step`.
    step : In(1), stride : In
        Go on by `stride` bytes.
    line : Out, offset : Out
        Scratchpad line, and slot within it.
    beyond : Out(1)
        The slot is not in the scratchpad; `line` and `offset` mean nothing.
    addr : Out(running address)
        The address, for reports.
    """

    def __init__(self, config: AcceleratorConfig, *, slot_bytes: int):
        self.config = config
        self.slot_bytes = slot_bytes
        address = running_address("activation_addr")
        super().__init__({
            "restart": In(1),
            "base": In(address),
            "step": In(1),
            "stride": In(address["value"].shape),
            "line": Out(ceil_log2(config.scratchpad_lines)),
            "offset": Out(range(config.line_bytes // slot_bytes)),
            "beyond": Out(1),
            "addr": Out(address),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.If(self.restart):
            m.d.sync += self.addr.eq(self.base)
        with m.Elif(self.step):
            m.d.sync += self.addr.eq(advance(self.addr, self.stride))
        m.d.comb += [
            self.line.eq(self.addr.value >> ceil_log2(self.config.line_bytes)),
            self.offset.eq(self.addr.value >> ceil_log2(self.slot_bytes)),
            self.beyond.eq(self.addr.overflow | (self.addr.value >= self.config.scratchpad_bytes)),
        ]
        return m
