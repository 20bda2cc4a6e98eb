"""Loads the stationary weights of the next tile of the hybrid mesh while this one streams."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.hybrid_tile import hybrid_tile_layout
from hw.array.tile import SlotRequest
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.ports import ErrorReport

__all__ = ["HybridPreload"]


class HybridPreload(wiring.Component):
    """Holds one tile: requests its plain weight slots, or takes its words; passes it on with the last of them.

    Latency, from the cycle in which a tile is taken to the one in which it is passed on, weights never waiting: as many cycles as
    it has valid rows (plain), N (packed, padding included), 1 (clusters). Initiation interval: the same.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i, o : In, Out(stream of hybrid_tile_layout)
    request : Out(SlotRequest), load : Out(1)
        Plain weight slots; `load` is high in the cycle of a grant, and the slot is for row `index`.
    words_valid : In(1), capture : Out(1)
        A word is there; it is taken, for column `index`.
    index : Out(range(N)), bank : Out(1)
        Row or column, and stationary register to load.
    clusters_streaming : In(1)
        The tile before this one still takes words.
    reader_fault : In(1), reader_report : In(ErrorReport)
        Words that do not come.
    halt : In(1)
        Take nothing.
    loaded : Out(1)
        Holds a tile.
    fault : Out(1), report : Out(ErrorReport)
        Level: the weights that come next are outside the scratchpad.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(hybrid_tile_layout(config))),
            "o": Out(stream.Signature(hybrid_tile_layout(config))),
            "request": Out(SlotRequest.weight(config)),
            "load": Out(1),
            "words_valid": In(1),
            "capture": Out(1),
            "index": Out(range(config.rows)),
            "bank": Out(1),
            "clusters_streaming": In(1),
            "reader_fault": In(1),
            "reader_report": In(ErrorReport),
            "halt": In(1),
            "loaded": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.weight_slot_bytes)
        tile = Signal(hybrid_tile_layout(config))
        left = Signal(range(config.rows + 1))
        pending, passed, starved = Signal(), Signal(), Signal()

        m.d.comb += [
            pending.eq(self.loaded & (left != 0)),
            self.request.line.eq(cursor.line),
            self.request.offset.eq(cursor.offset),
            self.request.count.eq(tile.columns),
            self.request.valid.eq(pending & ~tile.packed & ~cursor.beyond & ~self.halt),
            self.load.eq(self.request.valid & self.request.ready),
            self.capture.eq(pending & tile.packed & self.words_valid & ~self.clusters_streaming & ~self.halt),
            passed.eq(self.load | self.capture),
            starved.eq(pending & tile.packed & ~self.words_valid & ~self.clusters_streaming & self.reader_fault),
            self.bank.eq(tile.bank),
            self.fault.eq((pending & ~tile.packed & cursor.beyond) | starved),
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
            self.report.addr.eq(cursor.addr),
            cursor.step.eq(self.load),
            cursor.stride.eq(tile.weight_stride),
        ]
        with m.If(tile.packed):
            m.d.comb += self.report.eq(self.reader_report)
        with m.If(passed):
            m.d.sync += [self.index.eq(self.index + 1), left.eq(left - 1)]

        m.d.comb += [
            self.o.p.eq(tile),
            self.o.valid.eq(self.loaded & ((left == 0) | (passed & (left == 1)))),
            self.i.ready.eq(~self.loaded | (self.o.valid & self.o.ready)),
            cursor.base.eq(self.i.p.weight_addr),
        ]
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += cursor.restart.eq(~self.i.p.resume)
            m.d.sync += [
                tile.eq(self.i.p),
                self.index.eq(0),
                left.eq(Mux(self.i.p.clusters, 0, Mux(self.i.p.packed, config.columns, self.i.p.rows))),
            ]
        return m
