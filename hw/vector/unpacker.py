"""Turns a piece of a scratchpad line into the elements of a slice."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.vector.address import Element
from hw.vector.stream_reader import chunk_layout

__all__ = ["Unpacker"]


class Unpacker(wiring.Component):
    """Unpacker: float32 words as they are, int8 and unsigned nibbles widened to int32; combinational.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(chunk_layout(config))
    element : In(2)
        An `Element`.
    scalar : In(1)
        Lane 0 gets the word at `i.place`, whatever multiple of 4 that is.
    words : Out(lanes × 32)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(chunk_layout(config)),
            "element": In(2),
            "scalar": In(1),
            "words": Out(data.ArrayLayout(32, config.vector_lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes = self.config.vector_lanes
        chunk, place = Value.cast(self.i.words), self.i.place
        slots = len(chunk) // 32                            # elements of a slice, padded to a power of two
        with m.Switch(self.element):
            with m.Case(Element.WORD):
                m.d.comb += [self.words[lane].eq(self.i.words[lane]) for lane in range(lanes)]
                with m.If(self.scalar):
                    m.d.comb += self.words[0].eq(chunk.word_select(place[2:], 32))
            with m.Case(Element.BYTE):
                bytes_ = Signal(data.ArrayLayout(signed(8), slots))
                m.d.comb += Value.cast(bytes_).eq(chunk.word_select(place[len(place) - 2:], 8 * slots))
                m.d.comb += [self.words[lane].eq(bytes_[lane]) for lane in range(lanes)]
            if slots > 1:                                   # a nibble alone has no address
                with m.Case(Element.NIBBLE):
                    nibbles = Signal(data.ArrayLayout(4, slots))
                    m.d.comb += Value.cast(nibbles).eq(chunk.word_select(place[len(place) - 3:], 4 * slots))
                    m.d.comb += [self.words[lane].eq(nibbles[lane]) for lane in range(lanes)]
        return m
