"""Weight register and skid: what the DRAM has sent waits here, and leaves in beats."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.pim.timing import DramTiming

__all__ = ["WeightSkid", "skid_depth"]


def skid_depth(timing: DramTiming, interval: int) -> int:
    """Return the bursts for which there must be room so that reads never wait for credits while beats leave at once.

    A credit is away from its read until the burst has come (CL + BL), waited for the next cycle and left in beats (an interval).
    """
    return -(-(timing.cl + timing.bl) // interval) + 4


class WeightSkid(wiring.Component):
    """Queue of bursts of all streams, each serialised into `beats` beats, the lower bits of each segment first.

    The DRAM cannot be held back, so there is no ready: who reads it keeps to the credits. A burst is offered from the cycle after
    it came; a burst leaves in every `beats` cycles.

    Parameters
    ----------
    width : int
        Bits of a burst of all streams.
    beats, segments : int
        Their product is a divisor of `width`.
    depth : int
        Bursts, at least 2.

    Members
    -------
    valid : In(1), data : In(width)
        A burst from the DRAM.
    o : Out(stream of width / beats bits)
    credit : Out(1)
        The last beat of a burst leaves in this cycle: there is room for one more.
    overflow : Out(1)
        Sticky: a burst came where there was no room. It is lost.

    Raises
    ------
    ConfigError
        If the beats of the segments do not divide `width` or the depth is below 2.
    """

    def __init__(self, *, width: int, beats: int, depth: int, segments: int = 1):
        if width % segments or width // segments % beats:
            raise ConfigError(f"WeightSkid.beats must be a divisor of the {width // segments} bits, not {beats!r}")
        if depth < 2:
            raise ConfigError(f"WeightSkid.depth must be at least 2, not {depth!r}")
        self.width, self.beats, self.depth, self.segments = width, beats, depth, segments
        super().__init__({"valid": In(1), "data": In(width), "o": Out(stream.Signature(width // beats)), "credit": Out(1),
                          "overflow": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = [Signal(self.width, name=f"word_{index}", reset_less=True) for index in range(self.depth)]
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))
        level, beat = Signal(range(self.depth + 1)), Signal(range(self.beats))
        taken, full = Signal(), Signal()
        word, share = Signal(self.width), self.width // self.segments
        m.d.comb += word.eq(Array(words)[head])
        m.d.comb += [
            self.o.valid.eq(level != 0),
            self.o.payload.eq(Cat(word[first:first + share].word_select(beat, share // self.beats)
                                  for first in range(0, self.width, share))),
            taken.eq(self.o.valid & self.o.ready),
            self.credit.eq(taken & (beat == self.beats - 1)),
            full.eq(level == self.depth),
        ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(self.credit, 0, beat + 1))
        for pointer, moves in ((head, self.credit), (tail, self.valid & ~full)):
            with m.If(moves):
                m.d.sync += pointer.eq(Mux(pointer == self.depth - 1, 0, pointer + 1))
        m.d.sync += [level.eq(level + (self.valid & ~full) - self.credit), self.overflow.eq(self.overflow | (self.valid & full))]
        for index, place in enumerate(words):
            with m.If(self.valid & ~full & (tail == index)):
                m.d.sync += place.eq(self.data)
        return m
