"""Store unit: slices of the X buffer on their way into DRAM, packed into bursts."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.pim.ports import write_burst_layout

__all__ = ["PimStoreUnit", "store_layout"]


def store_layout(*, slices: int, beats: int, most: int, segments: int = 1) -> data.StructLayout:
    """Return the layout of a store.

    x: first slice of X; slices: after the first, `most` at most; beat: of the burst, where it begins; segment: whose streams.
    """
    return data.StructLayout({"x": ceil_log2(slices), "slices": ceil_log2(most), "beat": ceil_log2(beats),
                              "segment": ceil_log2(segments)})


class PimStoreUnit(wiring.Component):
    """Reads slices of row 0 of X, and makes bursts of them: slice after slice fills beat after beat of a segment, in the order in
    which MACs will get them.

    A stream that is not filled, or of another segment, is not written. A slice takes a cycle, a burst two more; while one waits
    the next is not begun.

    Parameters
    ----------
    width : int
        Bits of a slice of one row: those of a beat of a segment.
    beats : int
        Slices of a segment's share of a burst.
    streams, burst_bytes : int
        Of a burst; a beat must be whole streams of a segment, or a stream whole beats.
    slices : int
        Of the X buffer.
    most : int
        Slices of a store, at most.
    segments : int

    Members
    -------
    i : In(stream of `store_layout`)
    slice : Out, data : In(width)
        Read this slice; it is there in the next cycle.
    o : Out(stream of `write_burst_layout`)
    idle : Out(1)

    Raises
    ------
    ConfigError
        If slices do not make a burst.
    """

    def __init__(self, *, width: int, beats: int, streams: int, burst_bytes: int, slices: int, most: int, segments: int = 1):
        share = streams // segments
        if beats * width != 8 * burst_bytes * share or (share % beats and beats % share):
            raise ConfigError(f"PimStoreUnit.beats must divide a burst ({share} streams of {burst_bytes} bytes) into slices of "
                              f"{width} bits, not {beats!r}")
        self._width, self._beats, self._streams, self._segments = width, beats, share, segments
        super().__init__({
            "i": In(stream.Signature(store_layout(slices=slices, beats=beats, most=most, segments=segments))),
            "slice": Out(ceil_log2(slices)), "data": In(width),
            "o": Out(stream.Signature(write_burst_layout(streams, burst_bytes))), "idle": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        place, left = Signal.like(self.i.p.x), Signal.like(self.i.p.slices)
        beat, burst, filled = Signal(range(self._beats)), Signal(self._width * self._beats), Signal(self._beats)
        mask = Signal(self._streams)
        for index in range(self._streams):
            low, high = index * self._beats // self._streams, -(-(index + 1) * self._beats // self._streams)
            m.d.comb += mask[index].eq(filled[low:high].all())
        arriving, arriving_beat, arriving_last = Signal(), Signal.like(beat), Signal()
        last = (left == 0) | (beat == self._beats - 1)
        segment = Signal.like(self.i.p.segment)
        m.d.comb += [self.slice.eq(place), self.o.p.data.eq(burst.replicate(self._segments)),
                     self.o.p.mask.eq(Cat(Mux(segment == index, mask, 0) for index in range(self._segments)))]
        m.d.sync += [arriving.eq(0), arriving_beat.eq(beat), arriving_last.eq(last)]
        with m.If(arriving):
            for index in range(self._beats):
                with m.If(arriving_beat == index):
                    m.d.sync += [burst[index * self._width:(index + 1) * self._width].eq(self.data),
                                 filled[index].eq(1)]
        more = Signal()
        with m.FSM(name="store"):
            with m.State("idle"):
                m.d.comb += [self.i.ready.eq(1), self.idle.eq(1)]
                with m.If(self.i.valid):
                    m.d.sync += [place.eq(self.i.p.x), left.eq(self.i.p.slices), beat.eq(self.i.p.beat), filled.eq(0),
                                 segment.eq(self.i.p.segment)]
                    m.next = "read"
            with m.State("read"):
                m.d.sync += [arriving.eq(1), place.eq(place + 1), left.eq(left - 1), beat.eq(beat + 1)]
                with m.If(last):
                    m.d.sync += more.eq(left != 0)
                    m.next = "gather"
            with m.State("gather"):
                m.next = "give"
            with m.State("give"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [filled.eq(0), beat.eq(0)]
                    m.next = "idle"
                    with m.If(more):
                        m.next = "read"
        return m
