"""Writes finished slices into the scratchpad."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.ports import ScratchpadWritePort
from hw.vector.layouts import slice_layout, slices_per_row, slots_per_line

__all__ = ["SliceWriter"]


class SliceWriter(wiring.Component):
    """Slice writer: puts each slice's bytes into their place in a line and writes them, one slice a cycle.

    Two slices deep, so that `i.ready` comes out of a register: the scratchpad's arbitration does not reach into the lanes.
    Latency 1 cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `slice_layout(config)`)
    bytes : In(lanes × 8)
        The elements of `i`.
    write : ScratchpadWritePort
    finished : Out(1)
        The last slice of a command is being accepted by the scratchpad.
    busy : Out(1)
        A slice is inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(slice_layout(config))),
            "bytes": In(data.ArrayLayout(8, config.vector_lanes)),
            "write": Out(ScratchpadWritePort(config)),
            "finished": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        item = data.StructLayout({"description": slice_layout(config), "bytes": self.bytes.shape()})
        incoming = Signal(item)
        head, spare = Signal(item, reset_less=True), Signal(item, reset_less=True)
        head_valid, spare_valid = Signal(), Signal()
        push, move = Signal(), Signal()                     # move: the head's place is free for the next slice
        m.d.comb += [
            incoming.description.eq(self.i.p),
            incoming.bytes.eq(self.bytes),
            self.i.ready.eq(~spare_valid),
            push.eq(self.i.valid & self.i.ready),
            move.eq(~head_valid | self.write.ready),
            self.write.valid.eq(head_valid),
            self.finished.eq(head_valid & self.write.ready & head.description.last),
            self.busy.eq(head_valid),
        ]
        with m.If(move):
            m.d.sync += [
                head.eq(Mux(spare_valid, spare, incoming)),
                head_valid.eq(spare_valid | push),
                spare_valid.eq(0),
            ]
        with m.Elif(push):
            m.d.sync += [spare.eq(incoming), spare_valid.eq(1)]

        # Every slot of the line, and every slice of a slot, shows the same bytes; the mask says which of them count.
        lanes, slots, slices = config.vector_lanes, slots_per_line(config), slices_per_row(config)
        description = head.description
        padding = config.output_slot_bytes - config.columns
        counted = Signal(lanes)
        slot_mask = Signal(config.output_slot_bytes)
        m.d.comb += counted.eq(Cat(description.count > lane for lane in range(lanes)))
        if slices > 1:
            m.d.comb += slot_mask.eq(Cat(Mux(description.index == index, counted, 0) for index in range(slices)))
        else:
            m.d.comb += slot_mask.eq(counted)
        slot_data = Cat(Value.cast(head.bytes).replicate(slices), C(0, 8 * padding))
        m.d.comb += [
            self.write.addr.eq(description.line),
            self.write.data.eq(slot_data.replicate(slots)),
        ]
        if slots > 1:
            m.d.comb += self.write.mask.eq(Cat(Mux(description.slot == slot, slot_mask, 0) for slot in range(slots)))
        else:
            m.d.comb += self.write.mask.eq(slot_mask)
        return m
