"""HBM-PIM's front end on timing-checked DRAM, for benches in Amaranth's simulator: it does what the interpreter was asked."""

import numpy as np

from hw.pim.crf import PimMode
from hw.pim.crf_channel import CrfChannel, CrfFault, HostAccess
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.hbm_pim import HbmPim
from sw.pim.crf_assembler import CrfError
from sw.pim.dram import DramChannel
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, put_all, simulate

__all__ = ["HBM2", "INTERVAL", "PHASES", "UNITS", "Recorder", "cells_of", "run"]

UNITS = 2                   # that are built; the interpreter has more, in lock step
HBM = PIM_PRESETS["pim-hbm"]
HBM2, INTERVAL = HBM.dram, HBM.interval
PHASES = INTERVAL // HBM.pim_per_burst      # a cycle of its clock is an interval
ROWS = 1 << 14
_REFUSALS = {
    "must wait for a PRE": CrfFault.ROW_OPEN, "must have an open row": CrfFault.ROW_CLOSED,
    "must not be left while PIM mode is on": CrfFault.PIM_ON, "must be written while PIM mode is off": CrfFault.PIM_ON,
    "must be written in HAB mode": CrfFault.SINGLE_BANK, "column of the configuration row": CrfFault.COLUMN,
    "must be of the bank that is addressed": CrfFault.BANK,
}


class Recorder(HbmPim):
    """The interpreter, and what it was asked: accesses, what reads outside of PIM mode gave, which were refused and why."""

    def __init__(self):
        super().__init__()
        self.accesses, self.reads, self.refusals, self.faults, self.recording = [], [], [], False, True

    def _do(self, kind, act, *, row=0, column=0, unit=0, odd=False, data=None):
        if self.recording and unit < UNITS:
            word = 0 if data is None else int.from_bytes(data.tobytes(), "little")
            self.accesses.append({"kind": kind, "row": row, "column": column, "odd": odd, "unit": unit, "data": word})
        try:
            return act()
        except CrfError as error:
            if not self.faults:
                raise
            fault = next((fault for text, fault in _REFUSALS.items() if text in str(error)), CrfFault.PROGRAM)
            self.refusals.append((len(self.accesses) - 1, fault))
            return None

    def activate(self, row):
        self._do(HostAccess.ACT, lambda: super(Recorder, self).activate(row), row=row)

    def precharge(self):
        self._do(HostAccess.PRE, super().precharge)

    def write(self, column, data, *, unit=0, odd=False):
        self._do(HostAccess.WR, lambda: super(Recorder, self).write(column, data, unit=unit, odd=odd), column=column, unit=unit,
                 odd=odd, data=data)

    def read(self, column, *, unit=0, odd=False):
        found = self._do(HostAccess.RD, lambda: super(Recorder, self).read(column, unit=unit, odd=odd), column=column, unit=unit,
                         odd=odd)
        if self.recording and found is not None and self.mode is not PimMode.HAB_PIM and unit < UNITS:
            self.reads.append(int.from_bytes(found.tobytes(), "little"))
        return found


def run(recorder, cells, *, stall=0.0, seed=0, phases=PHASES):
    """Do the recorded accesses, DRAM filled with `cells`; return the DRAM model, after everything is compared."""
    dut = CrfChannel(timing=HBM2, interval=INTERVAL, units=UNITS, phases=phases)
    model = DramModel(DramChannel(HBM2, interval=INTERVAL, rows=ROWS), streams=UNITS, phases=phases)
    for (odd, row, column), data in cells.items():
        model.fill(odd, row, column, np.concatenate(data[:UNITS]).view(np.uint8))
    reads, refusals, instructions, taken = [], [], 0, 0

    async def watch(ctx):
        nonlocal instructions, taken
        async for _, _, valid, data, refused, fault, runs, goes in ctx.tick().sample(
                dut.rvalid, dut.rdata, dut.refused, dut.fault, dut.executed, dut.i.valid & dut.i.ready):
            if valid:
                reads.append(data)
            if refused:
                refusals.append((taken - 1, CrfFault(fault)))
            instructions += runs
            taken += goes

    async def drain(ctx):
        await put_all(dut.i, recorder.accesses, stall=stall, seed=seed)(ctx)
        await ctx.tick()
        while not ctx.get(dut.idle):
            await ctx.tick()
        await ctx.tick().repeat(3)

    simulate(dut, drain, background=[lambda ctx: model.serve(ctx, dut.dram), watch, check_stream(dut.i)], seed=seed)
    assert refusals == recorder.refusals
    assert instructions == recorder.instructions
    assert len(reads) == len(recorder.reads)
    for found, golden in zip(reads, recorder.reads, strict=True):
        words = [np.frombuffer(word.to_bytes(32, "little"), np.float16) for word in (found, golden)]
        np.testing.assert_array_equal(*words)
    assert model.dram.violations.total() == 0
    return model


def cells_of(pim):
    """Return the interpreter's memory: (odd, row, column) → a register of each unit."""
    return {(odd, row, column): [pim._store.get((unit, odd, row, column), np.zeros(16, np.float16)) for unit in range(8)]
            for _, odd, row, column in list(pim._store)}
