"""I/O unit of a PIM channel: host words → X buffer and output buffer, output buffer → host words."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.ports import side_port

__all__ = ["IoUnit", "io_command_layout"]

_WORD = 32                  # bits of an accumulator


def io_command_layout() -> data.StructLayout:
    """Return the layout of a command: which of `IO_OPCODES`, entries less one, first slice or entry."""
    return data.StructLayout({"op": 6, "cnt": 7, "first": 12})


class IoUnit(wiring.Component):
    """Carries out WRX, WRACC, RDACC and WRS, one after the other.

    A host word is one row of a slice: lanes × `bits` bits. A slice is X words, an entry of the output buffer X · 32 / bits
    words: row by row, lane 0 lowest. WRX takes a word a cycle; an entry takes one cycle for each word, and 3 more. Entries from
    `wide` on have the first `segments` lanes only: of other lanes nothing is written, and zeros are read.

    Parameters
    ----------
    bits : int
        Of an element of X: 8, 16 or 32.
    lanes, rows, slices, entries, wide, segments : int
        Of the two buffers; see `OutputBuffer`.
    sides : int
        Bytes of the side table; 0: there is none.

    Members
    -------
    i : In(stream of `io_command_layout`)
    done : Out(1)
        A command is done.
    busy : Out(1)
    host_in : In(stream of lanes × bits), host_out : Out(stream of lanes × bits)
    side : Out
        See `ComputePath`; where there are sides.
    x : Out, x_ready : In(1), write : Out, ready : In(1), entry : Out, readable : In(1), o : In
        A row of a slice is written in a cycle with `x_ready`, and `entry` read with `readable`. See `XBuffer` and `OutputBuffer`.

    Raises
    ------
    ConfigError
        If an entry is no whole number of words.
    """

    def __init__(self, *, bits: int, lanes: int, rows: int, slices: int, entries: int, wide: int, segments: int = 1,
                 sides: int = 0):
        if bits not in (8, 16, 32) or lanes * bits % _WORD:
            raise ConfigError(f"IoUnit.lanes must make a row of {bits}-bit elements a multiple of {_WORD} bits, not {lanes!r}")
        self._bits, self._lanes, self._rows, self._wide, self._sides = bits, lanes, rows, wide, sides
        self._segments = segments
        word = lanes * bits // 8
        entry = ceil_log2(entries)
        every = data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes)
        super().__init__({
            "i": In(stream.Signature(io_command_layout())), "done": Out(1), "busy": Out(1),
            "host_in": In(stream.Signature(lanes * bits)), "host_out": Out(stream.Signature(lanes * bits)),
            "x": Out(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                       "data": Out(data.ArrayLayout(bits, lanes))})),
            "x_ready": In(1),
            "write": Out(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(lanes), "data": Out(every)})),
            "ready": In(1), "entry": Out(entry), "readable": In(1, init=1), "o": In(every),
            **({"side": Out(side_port(max(1, sides // word), word))} if sides else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, rows, width = self._lanes, self._rows, self._lanes * self._bits
        words = rows * _WORD // self._bits                  # of an entry
        place, left = Signal.like(self.i.p.first), Signal.like(self.i.p.cnt)
        at = Signal(range(max(words, rows)))
        held = Signal(words * width)                        # an entry, row by row
        narrow = place >= self._wide
        last_row, last_word = at == rows - 1, at == words - 1
        m.d.comb += [
            self.x.slice.eq(place), self.x.row.eq(at), Value.cast(self.x.data).eq(self.host_in.p), self.write.entry.eq(place),
            self.write.lanes.eq(Mux(narrow, (1 << self._segments) - 1, (1 << lanes) - 1)), self.entry.eq(place),
            self.host_out.p.eq(held[:width]),
        ]
        # Wide words are written at once: Amaranth goes through all of their bits for each statement.
        m.d.comb += Value.cast(self.write.data).eq(
            Cat(held.word_select(row * lanes + lane, _WORD) for lane in range(lanes) for row in range(rows)))

        def next_entry(state: str) -> None:
            with m.If(left == 0):
                m.d.comb += self.done.eq(1)
                m.next = "rest"
            with m.Else():
                m.d.sync += [left.eq(left - 1), place.eq(place + 1), at.eq(0)]
                m.next = state

        with m.FSM(name="io") as machine:
            with m.State("rest"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [place.eq(self.i.p.first), left.eq(self.i.p.cnt), at.eq(0)]
                with m.If(self.i.valid):
                    with m.Switch(self.i.p.op):
                        with m.Case(PimOpcode.WRX):
                            m.next = "slice"
                        with m.Case(PimOpcode.WRACC):
                            m.next = "gather"
                        if self._sides:
                            with m.Case(PimOpcode.WRS):
                                m.next = "sides"
                        with m.Default():
                            m.next = "read"
            if self._sides:
                with m.State("sides"):
                    self._side(m, place, left)
                    with m.If(self.host_in.valid):
                        m.d.comb += self.done.eq(1)
                        m.next = "rest"
            with m.State("slice"):
                m.d.comb += [self.host_in.ready.eq(self.x_ready), self.x.valid.eq(self.host_in.valid)]
                with m.If(self.host_in.valid & self.x_ready):
                    m.d.sync += at.eq(at + 1)
                    with m.If(last_row):
                        next_entry("slice")
            with m.State("gather"):
                m.d.comb += self.host_in.ready.eq(1)
                with m.If(self.host_in.valid):
                    m.d.sync += [held.eq(Cat(held, self.host_in.p)[width:]), at.eq(at + 1)]
                    with m.If(last_word):
                        m.next = "write"
            with m.State("write"):
                m.d.comb += self.write.valid.eq(1)
                with m.If(self.ready):
                    next_entry("gather")
            with m.State("read"):
                with m.If(self.readable):
                    m.next = "take"
            with m.State("take"):
                m.d.sync += held.eq(Cat(self.o[lane][row] if lane < self._segments else Mux(narrow, 0, self.o[lane][row])
                                        for row in range(rows) for lane in range(lanes)))
                m.next = "send"
            with m.State("send"):
                m.d.comb += self.host_out.valid.eq(1)
                with m.If(self.host_out.ready):
                    m.d.sync += [held.eq(held[width:]), at.eq(at + 1)]
                    with m.If(last_word):
                        next_entry("read")
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m

    def _side(self, m: Module, first: Value, left: Value) -> None:
        """Put a host word into the side table: its bytes from `first` on, and `left` further."""
        word = self._lanes * self._bits // 8
        size = ceil_log2(word)
        low = first[:size]

        def begun(byte: int) -> Value:
            return low <= byte if byte < word - 1 else C(1, 1)

        def reached(byte: int) -> Value:
            return low + left >= byte if byte else C(1, 1)

        m.d.comb += [
            self.host_in.ready.eq(1), self.side.valid.eq(self.host_in.valid), self.side.word.eq(first[size:]),
            self.side.data.eq(self.host_in.p),
            self.side.mask.eq(Cat(begun(byte) & reached(byte) for byte in range(word))),
        ]
