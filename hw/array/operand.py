"""Fetches operand slots: from a granted request to masked lanes at the mesh's edge."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.ports import ScratchpadReadPort

__all__ = ["OperandFetch"]


class OperandFetch(wiring.Component):
    """Reads a slot from the scratchpad, picks it out of its line and masks the lanes past the valid ones to zero.

    One slot a cycle; `lanes` has it `latency` cycles after the request was granted, and keeps it until the next one.

    Parameters
    ----------
    config : AcceleratorConfig
    request : SlotRequest
        Signature of the requests, of the operand that is fetched.
    element_width : int
        Bits of an element, two's complement.

    Members
    -------
    request : In(SlotRequest), read : Out(ScratchpadReadPort)
    lanes : Out(lanes × signed(element_width))
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig, *, request: SlotRequest, element_width: int):
        self.slot_bits = 8 * request.slot_bytes
        self.layout = data.ArrayLayout(signed(element_width), request.lanes)
        super().__init__({
            "request": In(request),
            "read": Out(ScratchpadReadPort(config)),
            "lanes": Out(self.layout),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        request = self.request
        m.d.comb += [
            self.read.addr.eq(request.line),
            self.read.valid.eq(request.valid),
            request.ready.eq(self.read.ready),
        ]

        arriving = Signal()
        offset = Signal.like(request.offset)
        count = Signal.like(request.count)
        m.d.sync += arriving.eq(request.valid & request.ready)
        with m.If(request.valid & request.ready):
            m.d.sync += [offset.eq(request.offset), count.eq(request.count)]

        # An array of slices: of `word_select` Amaranth would follow every pair of bits when it looks for loops.
        slots = Array(self.read.data[first:first + self.layout.size] for first in range(0, len(self.read.data), self.slot_bits))
        slot = data.View(self.layout, slots[offset])
        with m.If(arriving):
            for lane in range(self.layout.length):
                m.d.sync += self.lanes[lane].eq(Mux(lane < count, slot[lane], 0))
        return m
