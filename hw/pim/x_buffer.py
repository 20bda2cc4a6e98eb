"""X buffer: slices of lanes × X elements, read a slice a cycle, or one element of each row for all lanes of a segment."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError

__all__ = ["XBuffer"]


class XBuffer(wiring.Component):
    """Elements of the rows that share a weight. One slice is written (one row of it, or all alike) and one read in every cycle.

    Parameters
    ----------
    bits : int
        Of an element.
    lanes : int
        Elements of a row in a slice, a power of two.
    rows : int
        X.
    slices : int
    segments : int
        Segments of as many lanes that take what is read, a power of two of at most `lanes`.

    Members
    -------
    write : In({valid: 1, slice, row, data: lanes × bits})
    copy : In({valid: 1, slice, data: rows × lanes × bits})
        Write this into all rows; not together with `write`.
    peek : In, peeked : Out(lanes × bits)
        Row 0 of that slice, in the next cycle.
    slice : In, lane : In, bcast : In(1)
        Read this slice; with `bcast` element `lane` of it for the first segment, the next one for the second and so on; of
        several segments `lane` is a multiple of their number.
    o : Out(rows × segments × lanes × bits)
        In the next cycle: the slice for each segment, or in all lanes of a segment its element.

    Raises
    ------
    ConfigError
        If lanes or segments are no power of two, or there is nothing to hold.
    """

    latency = 1

    def __init__(self, *, bits: int, lanes: int, rows: int, slices: int, segments: int = 1):
        self.check(lanes=lanes, rows=rows, slices=slices, segments=segments)
        self._segments = segments
        self._bits, self._lanes, self._rows, self._slices = bits, lanes, rows, slices
        row = data.ArrayLayout(bits, lanes)
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                          "data": Out(row)})),
            "copy": In(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)),
                                         "data": Out(data.ArrayLayout(row, rows))})),
            "peek": In(ceil_log2(slices)), "peeked": Out(row),
            "slice": In(ceil_log2(slices)), "lane": In(ceil_log2(lanes)), "bcast": In(1),
            "o": Out(data.ArrayLayout(data.ArrayLayout(bits, segments * lanes), rows)),
        })

    @staticmethod
    def check(*, lanes: int, rows: int, slices: int, segments: int = 1) -> None:
        """Raise what the constructor does."""
        if lanes < 1 or lanes & (lanes - 1):
            raise ConfigError(f"XBuffer.lanes must be a power of two, not {lanes!r}")
        if not 1 <= segments <= lanes or segments & (segments - 1):
            raise ConfigError(f"XBuffer.segments must be a power of two of at most {lanes}, not {segments!r}")
        for name, value in (("rows", rows), ("slices", slices)):
            if value < 1:
                raise ConfigError(f"XBuffer.{name} must be at least 1, not {value!r}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = self._bits * self._lanes
        lane, bcast = Signal.like(self.lane), Signal()
        m.d.sync += [lane.eq(self.lane), bcast.eq(self.bcast)]
        for row in range(self._rows):
            m.submodules[f"row_{row}"] = words = memory.Memory(shape=width, depth=self._slices, init=[],
                                                               attrs={"ram_style": "block"})
            write = words.write_port()
            read = words.read_port(transparent_for=(write,))
            elements = Signal(data.ArrayLayout(self._bits, self._segments), name=f"elements_{row}")
            m.d.comb += [
                write.addr.eq(Mux(self.copy.valid, self.copy.slice, self.write.slice)),
                write.data.eq(Mux(self.copy.valid, self.copy.data[row].as_value(), self.write.data.as_value())),
                write.en.eq(self.copy.valid | (self.write.valid & (self.write.row == row))),
                read.addr.eq(self.slice), read.en.eq(1),
                Value.cast(elements).eq(read.data.word_select(lane[ceil_log2(self._segments):], self._segments * self._bits)),
                Value.cast(self.o[row]).eq(Mux(bcast, Cat(element.replicate(self._lanes) for element in elements),
                                               read.data.replicate(self._segments))),
            ]
            if row == 0:
                second = words.read_port(transparent_for=(write,))
                m.d.comb += [second.addr.eq(self.peek), second.en.eq(1), self.peeked.eq(second.data)]
        return m
