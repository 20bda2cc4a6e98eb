"""The byte transposer of the load unit: turns square blocks of beats around."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.memory.axi import SCRATCHPAD_WIDTH

__all__ = ["Transposer", "source_layout", "turned_layout"]


def source_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a source beat.

    Fields: `data`; `addr` where byte 0 of the block's first row goes (of interest in the first row of a block only); `stride`
    between the block's columns, `unpack`: twice that between columns; `tail`: columns that the block has, 0 for all; `end`: no
    more rows in this column of blocks; `last` row of the command; `bad`: the data are not to be used.
    """
    return data.StructLayout({
        "data": config.bus_width, "addr": SCRATCHPAD_WIDTH, "stride": 24, "unpack": 1,
        "tail": ceil_log2(config.beat_bytes), "end": 1, "last": 1, "bad": 1,
    })


def turned_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a turned beat.

    Fields: `data`; its `addr`; `stride` and `unpack` as they came in; whether to `write` it; whether it is the command's `last`.
    """
    return data.StructLayout({
        "data": config.bus_width, "addr": SCRATCHPAD_WIDTH, "stride": 24, "unpack": 1, "write": 1, "last": 1})


class Transposer(wiring.Component):
    """Transposes blocks of B rows of B bytes, B = beat_bytes: byte j of row i of a block becomes byte i of its beat j.

    One beat in and one out in each cycle: an array of B×B bytes is shifted up while even blocks enter as rows, and to the left
    while odd blocks enter as columns, so that the block before leaves the other way. A phase is B steps, and each step takes a
    beat, gives one, or both. A block that ends early is filled up with zero rows by itself, one a cycle. After the last block of
    a command the array empties in B steps, unless the next command's first beat is there when that phase begins. A block with a
    bad beat turns around like any other, and is bad when it leaves.

    Latency B cycles from the first row to the first turned beat; B steps a block, however many of its rows and columns exist.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `source_layout(config)`)
    o : Out(stream of `turned_layout(config)`)
        Exactly B beats a block; `ready` of `i` is combinational on `ready` of `o`, and `valid` of `o` on `valid` of `i`.
    busy : Out(1)
        Something is inside.
    bad : Out(1)
        The block that leaves is bad; all beats that came before it are out.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.latency = config.beat_bytes
        super().__init__({
            "i": In(stream.Signature(source_layout(config))),
            "o": Out(stream.Signature(turned_layout(config))),
            "busy": Out(1),
            "bad": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size = self.config.beat_bytes
        source, turned = self.i.payload, self.o.payload
        fields = source_layout(self.config).members
        place = data.StructLayout({name: fields[name] for name in ("addr", "stride", "unpack", "tail", "last", "bad")})

        rows = [Signal(8 * size, name=f"row_{i}", reset_less=True) for i in range(size)]
        leftwards = Signal()                            # direction of this phase
        step = Signal(range(size))
        filling_later = Signal()                        # this phase takes beats (from its second step on)
        padding = Signal()                              # the rest of them are zero rows
        full = Signal()                                 # this phase gives beats
        entering = Signal(place, reset_less=True)       # the block that enters, and the one that leaves
        leaving = Signal(place, reset_less=True)

        filling = Signal()
        moving = Signal()
        taking = Signal()
        phase_end = Signal()
        entering_bad = Signal()                         # so far, the beat at hand included
        m.d.comb += [
            filling.eq(Mux(step == 0, self.i.valid | (full & ~leaving.last), filling_later)),
            moving.eq((filling | full) & (~filling | padding | self.i.valid) & (~full | self.o.ready)),
            taking.eq(moving & filling & ~padding),
            phase_end.eq(step == size - 1),
            entering_bad.eq(((step != 0) & entering.bad) | (taking & source.bad)),
            self.i.ready.eq(filling & ~padding & (~full | self.o.ready)),
            self.o.valid.eq(full & (~filling | padding | self.i.valid)),
            self.busy.eq(full | filling_later),
            self.bad.eq(full & leaving.bad),
        ]

        row_in = Signal(8 * size)
        m.d.comb += row_in.eq(Mux(padding, 0, source.data))
        with m.If(moving & leftwards):
            m.d.sync += [row.eq(Cat(row[8:], row_in[8 * i:8 * i + 8])) for i, row in enumerate(rows)]
        with m.Elif(moving):
            m.d.sync += [row.eq(below) for row, below in zip(rows, [*rows[1:], row_in], strict=True)]

        m.d.comb += [
            turned.data.eq(Mux(leftwards, Cat(row[:8] for row in rows), rows[0])),
            turned.addr.eq(leaving.addr),
            turned.stride.eq(leaving.stride),
            turned.unpack.eq(leaving.unpack),
            turned.write.eq((leaving.tail == 0) | (step < leaving.tail)),
            turned.last.eq(leaving.last & phase_end),
        ]

        with m.If(taking):
            with m.If(step == 0):
                m.d.sync += [entering[name].eq(source[name]) for name in ("addr", "stride", "unpack", "tail")]
            m.d.sync += [entering.last.eq(source.last), entering.bad.eq(entering_bad), padding.eq(source.end)]
        with m.If(moving):
            m.d.sync += [
                step.eq(step + 1),
                filling_later.eq(filling),
                leaving.addr.eq(leaving.addr + Mux(leaving.unpack, leaving.stride << 1, leaving.stride)),
            ]
            with m.If(phase_end):
                m.d.sync += [
                    leftwards.eq(~leftwards),
                    full.eq(filling),
                    filling_later.eq(0),
                    padding.eq(0),
                    leaving.eq(entering),
                    leaving.last.eq(Mux(padding, entering.last, source.last)),
                    leaving.bad.eq(entering_bad),
                ]
        return m
