"""Loads the weights of the next tile, slot by slot, while this one multiplies, and checks their coordinates."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.cursor import SlotCursor
from hw.array.hss_check import CoordinateCheck
from hw.array.hss_sequencer import hss_tile_layout
from hw.array.hss_shape import HssShape
from hw.array.operand import OperandFetch
from hw.array.tasd_shape import TasdShape
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.ports import ErrorReport, ScratchpadReadPort

__all__ = ["HssLoader"]


class HssLoader(wiring.Component):
    """Holds one tile; reads its slots, a byte for each column: coordinates, then values; passes it on with the last grant.

    Initiation interval: as many cycles as it has slots, grants never waiting, since the next tile is taken in the cycle in which
    this one is passed on. What a slot says is on `lanes` `OperandFetch.latency` cycles after its grant, for the bytes that
    `coordinates` and `value` name.

    Parameters
    ----------
    config : AcceleratorConfig
    shape : HssShape or TasdShape

    Members
    -------
    i, o : In, Out(stream of `hss_tile_layout`)
    read : Out(ScratchpadReadPort)
    lanes : Out(C × unsigned(8)), coordinates : Out(bytes of coordinates), value : Out(weights)
        A slot, and which byte of the columns' records it is, one bit each.
    halt : In(1)
        Request nothing.
    loaded : Out(1)
        Holds a tile.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slot is outside the scratchpad, or coordinates are out of range or not increasing.
    """

    def __init__(self, config: AcceleratorConfig, shape: HssShape | TasdShape):
        self.config, self.shape = config, shape
        super().__init__({
            "i": In(stream.Signature(hss_tile_layout(config))),
            "o": Out(stream.Signature(hss_tile_layout(config))),
            "read": Out(ScratchpadReadPort(config)),
            "lanes": Out(data.ArrayLayout(unsigned(8), config.columns)),
            "coordinates": Out(shape.metadata),
            "value": Out(shape.rows),
            "halt": In(1),
            "loaded": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, shape = self.config, self.shape
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.weight_slot_bytes)
        m.submodules.fetch = fetch = OperandFetch(config, request=SlotRequest.weight(config), element_width=8)
        connect(m, fetch=fetch.read, scratchpad=flipped(self.read))
        tile = Signal(hss_tile_layout(config))
        slots = shape.metadata + shape.rows
        place, left = Signal(slots), Signal(range(slots + 1))       # the next slot's byte, one bit; slots left
        bad, bad_addr = Signal(), Signal.like(cursor.addr.value)
        wanted = self.loaded & (left != 0)
        granted = Signal()
        m.d.comb += [
            fetch.request.line.eq(cursor.line), fetch.request.offset.eq(cursor.offset), fetch.request.count.eq(tile.columns),
            fetch.request.valid.eq(wanted & ~cursor.beyond & ~bad & ~self.halt),
            granted.eq(fetch.request.valid & fetch.request.ready),
            cursor.step.eq(granted), cursor.stride.eq(tile.weight_stride), cursor.base.eq(self.i.p.weight_addr),
            self.lanes.eq(fetch.lanes),
        ]
        with m.If(granted):
            m.d.sync += [place.eq(place << 1), left.eq(left - 1)]

        m.d.comb += [
            self.o.p.eq(tile),
            self.o.valid.eq(self.loaded & ((left == 0) | (granted & (left == 1)))),
            self.i.ready.eq(~self.loaded | (self.o.valid & self.o.ready)),
        ]
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += cursor.restart.eq(self.i.p.fresh)
            m.d.sync += [tile.eq(self.i.p), left.eq(self.i.p.rows), place.eq(1 << shape.metadata)]
            if shape.metadata:
                with m.If(self.i.p.coordinates):
                    m.d.sync += [place.eq(1), left.eq(slots)]

        arriving, there = (Signal(slots, name=name) for name in ("arriving", "there"))
        m.d.sync += [arriving.eq(Mux(granted, place, 0)), there.eq(arriving)]
        m.d.comb += [self.coordinates.eq(there[:shape.metadata]), self.value.eq(there[shape.metadata:])]
        checking: Value = Const(0)
        if isinstance(shape, HssShape) and shape.metadata:
            m.submodules.check = check = CoordinateCheck(shape, columns=config.columns)
            held = [Signal.like(cursor.addr.value, name=f"addr_{stage}") for stage in range(2)]
            m.d.sync += [held[0].eq(cursor.addr.value), held[1].eq(held[0])]
            m.d.comb += [check.lanes.eq(fetch.lanes), check.coordinates.eq(self.coordinates), check.h1.eq(tile.h1),
                         check.h0.eq(tile.h0), check.sdq.eq(tile.sdq), check.columns.eq(tile.columns)]
            with m.If(check.bad & ~bad):
                m.d.sync += [bad.eq(1), bad_addr.eq(held[1])]
            checking = Cat(arriving[:shape.metadata], there[:shape.metadata]).any()

        m.d.comb += [
            self.fault.eq(bad | (wanted & cursor.beyond & ~checking)),
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(cursor.addr),
        ]
        with m.If(bad):
            m.d.comb += [self.report.cause.eq(ErrorCause.METADATA), self.report.addr.eq(bad_addr)]
        return m
