"""Loads the stationary weights of the next tile while this one streams."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.tile import SlotRequest, is_os, tile_layout
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.ports import ErrorReport

__all__ = ["PreloadSequencer"]


class PreloadSequencer(wiring.Component):
    """Holds one tile; requests its weight slots, valid rows only, and passes it on with the last grant.

    Latency, from the cycle in which a tile is taken to the one in which it is passed on, grants never waiting: as many cycles as
    it has valid rows (WS; with `serialize` R, idle ones after the valid rows, so that every fold takes what SCALE-Sim says), 1
    (OS). Initiation interval: the same, since the next tile is taken in the cycle in which this one is passed on.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i, o : In, Out(stream of tile_layout)
    request : Out(SlotRequest), load : Out(1), row : Out(range(R))
        Weight slots; `load` is high in the cycle of a grant, and the slot is for array row `row`.
    bank : Out(1)
        Stationary register to load.
    drained : In(1)
        Nothing is left in the array, which a serialized tile waits for.
    halt : In(1)
        Request nothing.
    loaded : Out(1)
        Holds a tile.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slot is outside the scratchpad.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(tile_layout(config))),
            "o": Out(stream.Signature(tile_layout(config))),
            "request": Out(SlotRequest.weight(config)),
            "load": Out(1),
            "row": Out(range(config.rows)),
            "bank": Out(1),
            "drained": In(1),
            "halt": In(1),
            "loaded": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.cursor = cursor = SlotCursor(self.config, slot_bytes=self.config.weight_slot_bytes)
        tile = Signal(tile_layout(self.config))
        slots_left = Signal.like(tile.rows)
        valid_row = self.row < tile.rows
        pending = self.loaded & (slots_left != 0)
        wanted = pending & valid_row
        passed = Signal()                               # one slot more is done: loaded, or idle after the valid rows

        m.d.comb += [
            self.request.line.eq(cursor.line),
            self.request.offset.eq(cursor.offset),
            self.request.count.eq(tile.columns),
            self.request.valid.eq(wanted & ~cursor.beyond & ~self.halt & (self.drained | ~tile.serialize)),
            self.load.eq(self.request.valid & self.request.ready),
            passed.eq(self.load | (pending & ~valid_row)),
            self.bank.eq(tile.bank),
            self.fault.eq(wanted & cursor.beyond),
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
            self.report.addr.eq(cursor.addr),
            cursor.step.eq(self.load),
            cursor.stride.eq(tile.weight_stride),
        ]
        with m.If(passed):
            m.d.sync += [self.row.eq(self.row + 1), slots_left.eq(slots_left - 1)]

        m.d.comb += [
            self.o.p.eq(tile),
            self.o.valid.eq(self.loaded & ((slots_left == 0) | (passed & (slots_left == 1)))),
            self.i.ready.eq(~self.loaded | (self.o.valid & self.o.ready)),
            cursor.base.eq(self.i.p.weight_addr),
        ]
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += cursor.restart.eq(~self.i.p.resume)
            m.d.sync += [
                tile.eq(self.i.p),
                self.row.eq(0),
                slots_left.eq(Mux(self.i.p.serialize, self.config.rows, self.i.p.rows)),
            ]
            with m.If(is_os(self.config, self.i.p.dataflow)):
                m.d.sync += slots_left.eq(0)
        return m
