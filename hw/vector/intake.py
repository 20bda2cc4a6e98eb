"""Joins the descriptions of slices with their elements, wherever those come from."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from hw.config import AcceleratorConfig
from hw.isa import Unit
from hw.ports import AccumulatorReadPort, ScratchpadReadPort, descriptor_layout
from hw.vector.layouts import slice_layout
from hw.vector.row_reader import RowReader
from hw.vector.slice_queue import SliceQueue
from hw.vector.stream_reader import StreamReader, chunk_layout
from hw.vector.unpacker import Unpacker
from hw.vector.use import USE_LAYOUT

__all__ = ["Intake"]


class Intake(wiring.Component):
    """Intake: slices of a command with their elements, one a cycle, as the datapath takes them.

    Elements come from the accumulator, from the scratchpad or, one a row, from the row scalars. After a row of one slice of a
    command with both sum and maximum the datapath gets a gap, so that its two scalars can be written. Initiation interval 1
    cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor), use : In(USE_LAYOUT)
        Stable from `start` on.
    start : In(1)
        Begin a command.
    enable : In(1)
        The ports may be asked.
    acc : AccumulatorReadPort
    read : ScratchpadReadPort, rows : In(stream of 32 bits)
        A, and the scalars of row after row; only with `config.vector` = "transformer".
    i : In(stream of `slice_layout(config)`)
    o : Out(stream of {slice: `slice_layout(config)`, a: lanes × 32})
        Its `ready` must not wait for `valid`.
    busy : Out(1)
        A slice is inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        item = data.StructLayout({"slice": slice_layout(config), "a": data.ArrayLayout(32, config.vector_lanes)})
        members = {
            "command": In(descriptor_layout(Unit.VECTOR)),
            "use": In(USE_LAYOUT),
            "start": In(1),
            "enable": In(1),
            "acc": Out(AccumulatorReadPort(config)),
            "i": In(stream.Signature(slice_layout(config))),
            "o": Out(stream.Signature(item)),
            "busy": Out(1),
        }
        if config.vector == "transformer":
            members |= {"read": Out(ScratchpadReadPort(config)), "rows": In(stream.Signature(32))}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, command, use = self.config, self.command, self.use
        lanes = range(config.vector_lanes)
        m.submodules.rows = rows = RowReader(config)
        transformer = config.vector == "transformer"
        m.submodules.queue = queue = SliceQueue(shape=chunk_layout(config) if transformer else rows.words.shape())
        connect(m, ours=wiring.flipped(self.acc), reader=rows.acc)
        m.d.comb += [
            rows.m.eq(command.m),
            rows.n.eq(use.n),
            rows.origin.eq(command.acc_addr),
            rows.tile_stride.eq(command.acc_tile_stride),
            rows.start.eq(self.start & use.accumulator),
            rows.ask.eq(queue.ask & self.enable),
        ]
        if not transformer:
            m.d.comb += [
                queue.shown.eq(rows.shown),
                queue.p.eq(rows.words),
                self.o.valid.eq(self.i.valid & queue.o.valid),
                self.o.p.slice.eq(self.i.p),
                Value.cast(self.o.p.a).eq(queue.o.p),
                self.i.ready.eq(self.o.ready & queue.o.valid),
                queue.o.ready.eq(self.o.ready & self.i.valid),
            ]
            return m

        m.submodules.reader = reader = StreamReader(config)
        m.submodules.unpacker = unpacker = Unpacker(config)
        connect(m, ours=wiring.flipped(self.read), reader=reader.read)
        m.d.comb += [
            reader.m.eq(command.m),
            reader.n.eq(use.n),
            reader.origin.eq(command.a_addr),
            reader.stride.eq(command.a_stride),
            reader.element.eq(use.a_element),
            reader.start.eq(self.start & use.a),
            reader.ask.eq(queue.ask & self.enable),
            queue.shown.eq(rows.shown | reader.shown),
            queue.p.eq(reader.p),
        ]
        with m.If(use.accumulator):
            m.d.comb += [queue.p.words[lane].eq(rows.words[lane]) for lane in lanes]

        # A register in front of the datapath takes the elements, since to unpack them takes time.
        held = Signal()
        item = Signal(self.o.p.shape(), reset_less=True)
        gap = Signal()                                      # the datapath must get nothing
        of_rows = ~use.accumulator & ~use.a
        available, take, given = Signal(), Signal(), Signal()
        m.d.comb += [
            unpacker.i.eq(queue.o.p),
            unpacker.element.eq(use.a_element),
            unpacker.scalar.eq(use.a_scalar),
            available.eq(Mux(of_rows, self.rows.valid, queue.o.valid)),
            given.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(available & (~held | given)),
            take.eq(self.i.valid & self.i.ready),
            queue.o.ready.eq(take & ~of_rows),
            self.rows.ready.eq(take & of_rows),
            self.o.valid.eq(held & ~gap),
            self.o.p.eq(item),
            self.busy.eq(held),
        ]
        m.d.sync += held.eq(take | (held & ~given))
        with m.If(take):
            m.d.sync += [item.slice.eq(self.i.p), item.a.eq(unpacker.words)]
            with m.If(of_rows):
                m.d.sync += item.a[0].eq(self.rows.p)
        with m.If(given):
            m.d.sync += gap.eq(use.sum & use.max & item.slice.first & item.slice.last)
        with m.Elif(self.o.ready):
            m.d.sync += gap.eq(0)
        return m
