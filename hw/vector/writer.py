"""Writes finished slices into the scratchpad."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2, ceil_power_of_two
from hw.isa import Unit
from hw.ports import ScratchpadWritePort, descriptor_layout
from hw.vector.address import AddressWalk, Element, slice_step
from hw.vector.layouts import slice_layout, slices_per_group
from hw.vector.use import USE_LAYOUT

__all__ = ["SliceWriter"]


class SliceWriter(wiring.Component):
    """Slice writer: packs each slice's elements, puts them into their place in a line and writes them, one slice a cycle.

    It counts addresses by itself; the `Walker` has checked them. Two slices deep, so that `i.ready` comes out of a register: the
    scratchpad's arbitration does not reach into the datapath. Bytes beyond the slice's last element are not written; the high
    nibble of an odd count is 0. Latency 1 cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor), use : In(USE_LAYOUT)
        Stable from `start` on.
    start : In(1)
        Begin a command.
    i : In(stream of {slice: `slice_layout(config)`, words: lanes × 32})
        Of a slice that is not written, no trace is left.
    write : ScratchpadWritePort
    empties : Out(1)
        Nothing is inside after this cycle, if nothing enters.
    """

    latency = 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        words = data.ArrayLayout(32, config.vector_lanes)
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "use": In(USE_LAYOUT),
            "start": In(1),
            "i": In(stream.Signature(data.StructLayout({"slice": slice_layout(config), "words": words}))),
            "write": Out(ScratchpadWritePort(config)),
            "empties": Out(1),
        })
        # A piece of a line is what a slice of the widest element takes; narrower ones lie somewhere inside.
        self._elements = (Element.BYTE,) if config.vector == "requantize" else tuple(Element)
        self._slots = ceil_power_of_two(config.vector_lanes)
        self._piece_bytes = self._slots * self._elements[0].bits // 8

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, description = self.config, self.i.p.slice
        push, step = Signal(), Signal()
        addr = self._walk(m, step)
        place_log2, line_log2 = ceil_log2(self._piece_bytes), ceil_log2(config.line_bytes)
        item = data.StructLayout({"piece": 8 * self._piece_bytes, "mask": self._piece_bytes,
                                  "index": line_log2 - place_log2, "line": self.write.addr.shape()})
        incoming = Signal(item)
        head = Signal(item, reset_less=True)
        spare = Signal(item, reset_less=True)
        head_valid = Signal()
        spare_valid = Signal()
        move = Signal()                                     # the head's place is free for the next slice
        self._pack(m, incoming.piece, incoming.mask, addr[:place_log2])
        m.d.comb += [
            incoming.index.eq(addr[place_log2:line_log2]),
            incoming.line.eq(addr[line_log2:]),
            self.i.ready.eq(~spare_valid),
            step.eq(self.i.valid & self.i.ready),
            push.eq(step & self.use.output & (description.first | ~self.use.scalar)),
            move.eq(~head_valid | self.write.ready),
            self.write.valid.eq(head_valid),
            self.empties.eq(move & ~spare_valid),
        ]
        with m.If(move):
            m.d.sync += [
                head.eq(Mux(spare_valid, spare, incoming)),
                head_valid.eq(spare_valid | push),
                spare_valid.eq(0),
            ]
        with m.Elif(push):
            m.d.sync += [spare.eq(incoming), spare_valid.eq(1)]

        # Every piece of the line shows the same bytes; the mask says which of them count.
        pieces = config.line_bytes // self._piece_bytes
        m.d.comb += [
            self.write.addr.eq(head.line),
            self.write.data.eq(head.piece.replicate(pieces)),
            self.write.mask.eq(Cat(Mux(head.index == index, head.mask, 0) for index in range(pieces))),
        ]
        return m

    def _walk(self, m: Module, step: Value) -> Value:
        """Return the address of the slice at `i`."""
        description, slices = self.i.p.slice, slices_per_group(self.config)
        m.submodules.walk = walk = AddressWalk(width=ceil_log2(self.config.scratchpad_bytes))
        index = Signal(range(slices), reset_less=True)
        group_end = index == slices - 1
        with m.If(self.start):
            m.d.sync += index.eq(0)
        with m.Elif(step):
            m.d.sync += index.eq(Mux(description.last | group_end, 0, index + 1))
        m.d.comb += [
            walk.origin.eq(self.command.addr),
            walk.stride.eq(self.command.stride),
            walk.start.eq(self.start),
            walk.step.eq(step),
            walk.row_end.eq(description.last),
        ]
        with m.Switch(self.use.element):
            for element in self._elements:
                with m.Case(element):
                    m.d.comb += walk.along.eq(slice_step(self.config, element, group_end))
        return walk.addr[:-1]

    def _pack(self, m: Module, piece: Value, mask: Value, place: Value) -> None:
        """Drive a piece of a line, the slice in all its places, and the mask of the bytes that it fills at `place`."""
        lanes = self.config.vector_lanes
        description, words = self.i.p.slice, self.i.p.words
        counted = Signal(self._slots)
        m.d.comb += counted.eq(Cat(description.count > lane for lane in range(lanes)))
        with m.Switch(self.use.element):
            for element in self._elements:
                if self._slots * element.bits < 8:          # a nibble alone is never written
                    continue
                with m.Case(element):
                    bits = element.bits
                    if bits < 8:                            # the other nibble of a byte that is half filled is 0
                        packed = [Mux(counted[lane], words[lane][:bits], 0) for lane in range(lanes)]
                        filled = counted[0::2]
                    else:
                        packed = [words[lane][:bits] for lane in range(lanes)]
                        filled = Cat(one.replicate(bits // 8) for one in counted)
                    self._fill(m, piece, mask, place, Cat(*packed, C(0, (self._slots - lanes) * bits)), filled)
        if Element.WORD in self._elements:
            with m.If(self.use.scalar):
                self._fill(m, piece, mask, place, words[0], C(0b1111, 4))

    def _fill(self, m: Module, piece: Value, mask: Value, place: Value, packed: Value, filled: Value) -> None:
        """Drive piece and mask of a slice of some bytes."""
        count = len(packed) // 8
        copies = self._piece_bytes // count
        which = place[ceil_log2(count):]
        m.d.comb += [
            piece.eq(packed.replicate(copies)),
            mask.eq(Cat(Mux(which == index, filled | C(0, count), 0) for index in range(copies))),
        ]
