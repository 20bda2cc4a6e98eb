"""Compute commands as jobs of the channel, and their ends in order."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.channel import channel_job_layout
from hw.pim.config import PimConfig
from hw.pim.isa import MacMode, PimOpcode
from hw.pim.ports import RowJob
from hw.pim.sequencer import issued_layout
from hw.pim.units import ELEMENTWISE_OPCODES

__all__ = ["BURST_OPCODES", "JobMaker", "placed_layout"]

BURST_OPCODES = (PimOpcode.MAC, PimOpcode.RDCP, PimOpcode.WRCP, *ELEMENTWISE_OPCODES)
"""Commands that name bursts of a row."""
_ROW_JOBS = {PimOpcode.ACT: RowJob.OPEN, PimOpcode.PRE: RowJob.CLOSE, PimOpcode.REF: RowJob.REFRESH}
_SETS_LOG2 = 4              # of the sets that `grp` names


def placed_layout() -> data.StructLayout:
    """Return the layout of a command with the place of its token: set, row, column, beat of the burst, segment; of KVAP only."""
    return data.StructLayout({"issued": issued_layout(), "set": _SETS_LOG2, "row": 16, "column": 8, "beat": 8, "segment": 6,
                              "slices": 10})


class JobMaker(wiring.Component):
    """Makes channel jobs of MAC, RDCP, WRCP, KVAP, EWMUL, EWADD, ACT, PRE and REF. MODE is none: it ends in its turn.

    Jobs that multiply, that write X and that store from X, and those without bursts, end by ports of their own; a job of
    another kind than the one before waits until all are done, so that `done` is of the oldest.

    Parameters
    ----------
    config : PimConfig

    Members
    -------
    i : In(stream of `placed_layout`)
    job : Out(stream of `channel_job_layout`)
    multiplied, copied, stored, managed : In(1)
        `done`, `copied`, `stored`, `managed` of `PimChannel`.
    done : Out(1)
        The oldest job is done.
    """

    def __init__(self, config: PimConfig):
        self._config = config
        super().__init__({"i": In(stream.Signature(placed_layout())), "job": Out(stream.Signature(channel_job_layout(config))),
                          "multiplied": In(1), "copied": In(1), "stored": In(1), "managed": In(1), "done": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        fields, issued, job = self.i.p.issued.command, self.i.p.issued, self.job.p
        kind, last_kind, under_way = Signal(2), Signal(2), Signal(4)
        goes, ends, is_mode = Signal(), Signal(), fields.op == PimOpcode.MODE
        m.d.comb += [
            ends.eq(self.multiplied | self.copied | self.stored | self.managed),
            self.done.eq(ends | (self.i.valid & is_mode & goes)),
            goes.eq((under_way == 0) | ((kind == last_kind) & ~is_mode)), self.job.valid.eq(self.i.valid & goes & ~is_mode),
            self.i.ready.eq((self.job.ready | is_mode) & goes),
        ]
        m.d.sync += under_way.eq(under_way + (self.job.valid & self.job.ready) - ends)
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += last_kind.eq(kind)
        beats_log2, bursts, row_beats = ceil_log2(config.beats), Signal(range(config.columns + 1)), config.columns * config.beats
        m.d.comb += [
            bursts.eq(fields.cnt), job.row.column.eq(fields.col), job.row.row.eq(fields.row), job.row.bursts.eq(bursts),
            job.row.set[:_SETS_LOG2].eq(fields.grp), job.mac.bcast.eq(fields.mode == MacMode.BCAST),
            job.mac.select.eq(issued.operands), job.mac.bursts.eq(fields.cnt), job.mac.x.eq(fields.xidx),
            job.mac.period.eq(Mux(issued.k_beats > row_beats, row_beats - 1, issued.k_beats - 1)),
            job.mac.entry.eq(fields.aidx), job.mac.clr.eq(fields.clr), job.mac.last.eq(fields.last), job.store.x.eq(fields.xidx),
            job.store.slices.eq(((fields.cnt + 1) << beats_log2) - 1),
        ]
        if config.row_sets > 1 << _SETS_LOG2:           # rows beyond the last are of the next 16 sets
            m.d.comb += job.row.set[_SETS_LOG2:].eq(fields.row[ceil_log2(config.dram_rows):])
        with m.Switch(fields.op):
            with m.Case(PimOpcode.RDCP):
                m.d.comb += [kind.eq(1), job.mac.copy.eq(1)]
            for opcode, row_kind in _ROW_JOBS.items():
                with m.Case(opcode):
                    m.d.comb += [kind.eq(3), job.row.kind.eq(row_kind)]
            with m.Case(*ELEMENTWISE_OPCODES):
                m.d.comb += [kind.eq(1), job.mac.copy.eq(1), job.mac.elementwise.eq(1),
                             job.mac.sums.eq(fields.op == PimOpcode.EWADD)]
            with m.Case(PimOpcode.WRCP):
                m.d.comb += [kind.eq(2), job.row.write.eq(1), job.from_x.eq(1)]
            with m.Case(PimOpcode.KVAP):
                m.d.comb += [kind.eq(2), job.row.write.eq(1), job.from_x.eq(1), job.row.set.eq(self.i.p.set),
                             job.row.row.eq(self.i.p.row), job.row.column.eq(self.i.p.column), job.store.beat.eq(self.i.p.beat),
                             job.store.segment.eq(self.i.p.segment),
                             job.store.slices.eq(self.i.p.slices - 1),
                             bursts.eq((self.i.p.beat + self.i.p.slices - 1) >> beats_log2)]
        return m
