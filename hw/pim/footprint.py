"""Which buffer entries a command touches: what the scoreboard compares."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.config import PimConfig, format_has_sides
from hw.pim.isa import COMMAND_FIELDS, OPCODES, MacMode, PimOpcode, Queue
from hw.pim.scoreboard import EntryKind, range_layout

__all__ = ["ENTRY_WIDTH", "Footprint", "command_layout"]

ENTRY_WIDTH = 13            # of an entry's number, sums of fields included


def command_layout() -> data.StructLayout:
    """Return the layout of a command word."""
    return data.StructLayout({field.name: field.width for field in COMMAND_FIELDS})


class Footprint(wiring.Component):
    """Three ranges of entries that a command of the I/O or the compute queue touches; combinational.

    Ranges are exact where `k_beats` is a power of two, else those of MAC may be longer. A merge of two heads touches everything.

    Parameters
    ----------
    config : PimConfig

    Members
    -------
    i : In(`command_layout`)
    k_beats : In(10)
        Register K_BEATS, 1 to 512.
    head_slices : In
        Slices of a head's elements, 1 or more.
    output : In
        First entry of the output of head aidx.
    compute : Out(1)
        The command is for the compute queue.
    operands : In(2)
        Register OPERANDS.
    a, b, c : Out(`range_layout`)
        c is of MAC, what it reads of the side table.
    """

    def __init__(self, config: PimConfig):
        self._config = config
        super().__init__({
            "i": In(command_layout()), "k_beats": In(10), "head_slices": In(ENTRY_WIDTH), "output": In(ENTRY_WIDTH),
            "compute": Out(1), "a": Out(range_layout(ENTRY_WIDTH)), "b": Out(range_layout(ENTRY_WIDTH)),
            "c": Out(range_layout(ENTRY_WIDTH)), "operands": In(2),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, i = self._config, self.i
        beats_log2, width_log2, segments = ceil_log2(config.beats), ceil_log2(config.width), config.segments
        segments_log2 = ceil_log2(segments)
        m.d.comb += self.compute.eq(_any(i.op, [op for op, info in OPCODES.items() if info.queue is Queue.COMPUTE]))

        def touch(one: Any, kind: EntryKind, first: Value, count: Value, *, write: Value | int) -> None:
            m.d.comb += [one.kind.eq(kind), one.first.eq(first), one.last.eq(first + count - 1), one.write.eq(write)]

        count, beats = Signal(8), Signal(ENTRY_WIDTH)           # bursts, and their beats
        inner, outer = Signal(ENTRY_WIDTH), Signal(ENTRY_WIDTH)
        m.d.comb += [count.eq(i.cnt + 1), beats.eq(count << beats_log2), inner.eq(Mux(self.k_beats < beats, self.k_beats, beats))]
        for log2 in range(len(self.k_beats)):   # the highest bit of k_beats counts
            with m.If(self.k_beats[log2]):
                m.d.comb += outer.eq(((beats - 1)[:ENTRY_WIDTH] >> log2) + 1)
        head, single = i.aidx, C(1)
        with m.Switch(i.op):
            with m.Case(PimOpcode.WRX):
                touch(self.a, EntryKind.X, i.xidx, count, write=1)
            with m.Case(PimOpcode.WRS):
                touch(self.a, EntryKind.SIDE, i.xidx, count, write=1)
            with m.Case(PimOpcode.DQA):
                touch(self.a, EntryKind.OUTPUT, i.aidx, count, write=i.last)
            with m.Case(PimOpcode.MVX):
                touch(self.a, EntryKind.SOFTMAX, head, single, write=0)
                touch(self.b, EntryKind.X, i.xidx, count, write=1)
            with m.Case(PimOpcode.WRACC):
                touch(self.a, EntryKind.OUTPUT, i.aidx, count, write=1)
            with m.Case(PimOpcode.RDACC):
                touch(self.a, EntryKind.OUTPUT, i.aidx, count, write=0)
            with m.Case(PimOpcode.MVS):
                touch(self.a, EntryKind.OUTPUT, i.aidx, count, write=0)
                touch(self.b, EntryKind.SOFTMAX, i.xidx, single, write=1)
            with m.Case(PimOpcode.STS, PimOpcode.LDS):
                loads = i.op == PimOpcode.LDS
                touch(self.a, EntryKind.OUTPUT, i.aidx, single, write=~loads)
                touch(self.b, EntryKind.SOFTMAX, i.xidx, single, write=loads)
            with m.Case(PimOpcode.AF):
                touch(self.a, EntryKind.OUTPUT, i.aidx, count << (i.mode == 3), write=0)
                gathered = ((count * segments - 1)[:ENTRY_WIDTH] >> width_log2) + 1
                touch(self.b, EntryKind.X, i.xidx, Mux(i.clr, gathered, count), write=1)
            with m.Case(PimOpcode.SFM):
                touch(self.a, EntryKind.SOFTMAX, head, single, write=1)
            with m.Case(PimOpcode.SFO):
                touch(self.a, EntryKind.SOFTMAX, head, single, write=1)
                touch(self.b, EntryKind.OUTPUT, self.output, self.head_slices, write=1)
            with m.Case(PimOpcode.MRG):
                touch(self.a, EntryKind.SOFTMAX, head, single, write=1)
                touch(self.b, EntryKind.OUTPUT, self.output, self.head_slices, write=1)
                with m.If(i.aidx != i.xidx):
                    m.d.comb += self.a.kind.eq(EntryKind.ALL)
            with m.Case(PimOpcode.MAC):
                with m.If(i.mode == MacMode.TREE):
                    touch(self.a, EntryKind.X, i.xidx, inner, write=0)
                    touch(self.b, EntryKind.OUTPUT, i.aidx, outer, write=1)
                with m.Else():
                    m.d.comb += [self.a.kind.eq(EntryKind.X), self.a.first.eq(i.xidx >> width_log2),
                                 self.a.last.eq((i.xidx + outer * segments - 1) >> width_log2)]
                    touch(self.b, EntryKind.OUTPUT, i.aidx, inner, write=1)
                if config.has_sides:
                    with m.If(Mux(self.operands != 0, format_has_sides(config.kvtype), format_has_sides(config.wtype))):
                        touch(self.c, EntryKind.SIDE, Mux(i.mode == MacMode.TREE, i.aidx << segments_log2, i.xidx),
                              outer << segments_log2, write=0)
            with m.Case(PimOpcode.EWMUL, PimOpcode.EWADD, PimOpcode.RDCP):
                touch(self.a, EntryKind.X, i.xidx, beats, write=1)
            with m.Case(PimOpcode.WRCP):
                touch(self.a, EntryKind.X, i.xidx, beats, write=0)
            with m.Case(PimOpcode.KVAP):
                touch(self.a, EntryKind.X, i.xidx, self.head_slices, write=0)
        return m


def _any(value: Value, of: list[PimOpcode]) -> Value:
    return Cat(value == op for op in of).any()
