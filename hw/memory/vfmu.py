"""Variable fetch: slices of any length out of lines, one a cycle, whatever the length."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.memory.bank import MemoryBank
from hw.ports import ScratchpadReadPort
from hw.share import shared

__all__ = ["VariableFetch"]


class VariableFetch(wiring.Component):
    """Variable fetch management unit (VFMU): cuts streams of bytes into slices of 1 to a line's length, aligned to lane 0.

    A ring of two lines for each stream: the one that its last slice ended in, kept here, and the one that arrives. So a slice
    needs one line of the scratchpad at most, and none where it lies in the line kept. `streams` of them take turns: here, a
    stream is a token's row of activations, of which each step of K takes the next slice.

    Latency 2 cycles from the issue to `o`, initiation interval 1: no bubble in any mode, nor where the length changes from slice
    to slice. Only the first slice of a stream that crosses from one line into the next takes two reads, hence two cycles.

    HighLight (MICRO 2023) has it in front of its arrays, for one stream at a time that lies slice by slice in its buffer; rows of
    activations lie in one piece here, and so each has its own ring.

    Parameters
    ----------
    config : AcceleratorConfig
    streams : int
    groups, group_bytes : int
        A slice is handed out in `groups` pieces of up to `group_bytes`, each aligned to lane 0.

    Members
    -------
    valid : In(1), ready : Out(1)
        A slice is asked for; issued when both are high. It may change or go away before that.
    fresh : In(1)
        The stream's first slice; each other one begins where the last one of this stream ended.
    stream : In(range(streams))
    addr : In(byte address)
        First byte.
    count : In(range(groups · group_bytes + 1))
        Valid bytes; the others are zero.
    spacing : In(range(group_bytes + 1))
        Bytes from one piece to the next.
    read : Out(ScratchpadReadPort)
    o : Out(groups × group_bytes × unsigned(8))
        The slice issued two cycles ago; what lies beyond `spacing` in a piece means nothing.
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig, *, streams: int, groups: int, group_bytes: int):
        self.config, self.streams, self.groups, self.group_bytes = config, streams, groups, group_bytes
        super().__init__({
            "valid": In(1),
            "ready": Out(1),
            "fresh": In(1),
            "stream": In(range(streams)),
            "addr": In(ceil_log2(config.scratchpad_bytes)),
            "count": In(range(groups * group_bytes + 1)),
            "spacing": In(range(group_bytes + 1)),
            "read": Out(ScratchpadReadPort(config)),
            "o": Out(data.ArrayLayout(data.ArrayLayout(unsigned(8), group_bytes), groups)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size = self.config.line_bytes
        place = data.StructLayout({"offset": ceil_log2(size), "line": ceil_log2(self.config.scratchpad_lines)})
        here = data.View(place, self.addr)
        primed = Signal()                           # the first line of a fresh slice that crosses is there
        crosses, kept, reads = Signal(), Signal(), Signal()
        m.d.comb += [
            crosses.eq(here.offset + self.count > size),
            # At a line's first byte, what is kept is the line before.
            kept.eq(primed | (~self.fresh & (here.offset != 0))),
            reads.eq(crosses | ~kept),
            self.read.valid.eq(self.valid & reads),
            self.read.addr.eq(here.line + kept),
            self.ready.eq(self.valid & (kept | ~crosses) & (self.read.ready | ~reads)),
        ]
        granted = self.read.valid & self.read.ready
        with m.If(self.ready):
            m.d.sync += primed.eq(0)
        with m.Elif(granted):
            m.d.sync += primed.eq(1)
        with m.Elif(~self.valid):
            m.d.sync += primed.eq(0)

        bank = MemoryBank(depth=self.streams, width=8 * size, transparent=True)
        m.submodules.lines = shared(platform, f"vfmu_lines_d{self.streams}_b{size}", bank)
        arriving = Signal()
        stream = Signal.like(self.stream)
        low_kept = Signal()
        offset = Signal.like(here.offset)
        count = Signal.like(self.count)
        spacing = Signal.like(self.spacing)
        m.d.comb += [
            bank.read_addr.eq(self.stream), bank.read_en.eq(self.ready & kept),
            bank.write_addr.eq(stream), bank.write_data.eq(self.read.data), bank.write_en.eq(arriving),
        ]
        m.d.sync += [arriving.eq(granted), stream.eq(self.stream), low_kept.eq(kept), offset.eq(here.offset),
                     count.eq(self.count), spacing.eq(self.spacing)]
        self._align(m, Cat(Mux(low_kept, bank.read_data, self.read.data), self.read.data), offset, count, spacing)
        return m

    def _align(self, m: Module, window: Value, offset: Signal, count: Signal, spacing: Signal) -> None:
        """Shift each piece of the slice from its place in two lines to lane 0; bytes beyond the valid ones become zero."""
        size = self.config.line_bytes
        for group, piece in enumerate(self.o):
            first = Signal(range(2 * size), name=f"first_{group}")
            m.d.comb += first.eq(offset + group * spacing)
            shifted: Value = window
            for bit in reversed(range(len(first))):
                longest = 8 * (self.group_bytes + (1 << bit) - 1)       # what later steps can still reach
                level = Signal(min(longest, 16 * size), name=f"shifted_{group}_{bit}")
                m.d.comb += level.eq(Mux(first[bit], shifted[8 << bit:], shifted))
                shifted = level
            for lane in range(self.group_bytes):
                valid = group * spacing + lane < count
                m.d.sync += piece[lane].eq(Mux(valid, shifted[8 * lane:8 * lane + 8], 0))
