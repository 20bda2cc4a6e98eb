"""Tags that travel beside the array: where the row goes that leaves it now."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.tile import tag_layout
from hw.config import AcceleratorConfig

__all__ = ["ResultPipeline"]


class ResultPipeline(wiring.Component):
    """Delays a tag by the cycles from the issue of its slot to its row at the array's foot; one tag a cycle.

    Parameters
    ----------
    config : AcceleratorConfig
    latency : int
        The delay in cycles.
    lead : int
        Cycles from the issue of a slot to the slot at the mesh.
    tag : StructLayout or None
        The tag; None: `tag_layout(config)`.

    Members
    -------
    valid, tag : In; valid_out, tag_out : Out
    drained : Out(1)
        A slot issued now meets the mesh after the last row that is on its way has left it.
    empty : Out(1)
        No tag is on its way, `valid_out` included.
    """

    def __init__(self, config: AcceleratorConfig, *, latency: int, lead: int, tag: data.StructLayout | None = None):
        self.latency = latency
        self.lead = lead
        tag = tag or tag_layout(config)
        super().__init__({
            "valid": In(1),
            "tag": In(tag),
            "valid_out": Out(1),
            "tag_out": Out(tag),
            "drained": Out(1),
            "empty": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        occupied = Signal(self.latency)                 # bit d: the tag taken d + 1 cycles ago
        m.d.sync += occupied.eq(Cat(self.valid, occupied))
        tag = self.tag.as_value()
        for stage in range(self.latency):
            held = Signal(len(tag), name=f"tag_{stage}", reset_less=True)
            m.d.sync += held.eq(tag)
            tag = held
        m.d.comb += [
            self.valid_out.eq(occupied[-1]),
            self.tag_out.eq(tag),
            self.drained.eq(~occupied[:self.latency - self.lead].any()),
            self.empty.eq(~occupied.any()),
        ]
        return m
