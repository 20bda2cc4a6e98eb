"""Walk through entries of the output buffer: words are read a group of lanes at a time, and results put back behind."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError

__all__ = ["OutputWalk"]


class OutputWalk(wiring.Component):
    """Addresses of the output buffer, which others read and write too, for a pipeline of any length that takes a group a cycle.

    A group is `width` lanes; a walk takes the groups of some entries, of pairs of entries one after the other, or entries as a
    whole. Cycles in which the buffer is read for others, or a result has to wait, are made up for.

    Parameters
    ----------
    lanes, width : int
        Powers of two.

    Members
    -------
    start : In(1), first : In(8), last : In(8), whole, paired : In(1), offset : In(8)
        Walk from entry `first` on, over `last` entries and one. whole: an entry at a time; paired: group by group, each followed
        by that of the entry `offset` further on (modulo 256).
    go : In(1)
        What is there may be taken.
    entry : Out(8), readable : In(1)
        To the output buffer; it reads the entry in this cycle.
    takes : Out(1), beat : Out, second : Out(1), ends : Out(1)
        Group `beat` of what the buffer has read is taken: the second of a pair; the last of the walk. The first one can be taken
        two cycles after `start`.
    lands : In(1), ready : In(1), to : Out(8), to_lanes : Out(lanes)
        A result is at the end of the pipeline; it is written now; where.
    advance : Out(1)
        The pipeline moves.
    done : Out(1)
        The last result is written.

    Raises
    ------
    ConfigError
        If `lanes` or `width` is no power of two, or `width` is more.
    """

    def __init__(self, *, lanes: int, width: int):
        for name, value, most in (("lanes", lanes, 1 << 16), ("width", width, lanes)):
            if value < 1 or value & (value - 1) or value > most:
                raise ConfigError(f"OutputWalk.{name} must be a power of two of at most {most}, not {value!r}")
        self._lanes, self._width, self._beats = lanes, width, lanes // width
        super().__init__({
            "start": In(1), "first": In(8), "last": In(8), "whole": In(1), "paired": In(1), "offset": In(8), "go": In(1),
            "entry": Out(8), "readable": In(1), "takes": Out(1), "beat": Out(ceil_log2(self._beats)), "second": Out(1),
            "ends": Out(1), "lands": In(1), "ready": In(1), "to": Out(8), "to_lanes": Out(lanes), "advance": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        reading, fresh, whole, paired = Signal(), Signal(), Signal(), Signal()
        place, left, to_left, offset = Signal(8), Signal(8), Signal(8), Signal(8)
        to_beat = Signal.like(self.beat)
        next_place, next_second, entry_ends = Signal(8), Signal(), Signal()
        m.d.comb += [
            self.advance.eq(~self.lands | self.ready), self.takes.eq(fresh & self.advance & self.go),
            entry_ends.eq(self.takes & (~paired | self.second) & (whole | (self.beat == self._beats - 1))),
            self.ends.eq(entry_ends & (left == 0)), next_place.eq(place + entry_ends),
            next_second.eq(self.second ^ (self.takes & paired)), self.entry.eq(next_place + Mux(next_second, offset, 0)),
            self.to_lanes.eq(C((1 << self._width) - 1, self._lanes) << (to_beat * self._width)),
            self.done.eq(self.lands & self.ready & (to_beat == self._beats - 1) & (to_left == 0)),
        ]
        m.d.sync += [place.eq(next_place), self.second.eq(next_second), fresh.eq(reading & self.readable & ~self.ends)]
        with m.If(self.takes & (~paired | self.second) & ~whole):
            m.d.sync += self.beat.eq(self.beat + 1)
        with m.If(entry_ends):
            m.d.sync += left.eq(left - 1)
        with m.If(self.ends):
            m.d.sync += reading.eq(0)
        with m.If(self.lands & self.ready):
            m.d.sync += to_beat.eq(to_beat + 1)
            with m.If(to_beat == self._beats - 1):
                m.d.sync += [self.to.eq(self.to + 1), to_left.eq(to_left - 1)]
        with m.If(self.start):
            m.d.sync += [place.eq(self.first), self.to.eq(self.first), left.eq(self.last), to_left.eq(self.last),
                         whole.eq(self.whole), paired.eq(self.paired), offset.eq(self.offset), reading.eq(1), fresh.eq(0),
                         self.beat.eq(0), to_beat.eq(0), self.second.eq(0)]
        return m
