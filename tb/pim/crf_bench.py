"""HBM-PIM's front end on timing-checked DRAM, for benches in Amaranth's simulator: it does what the interpreter was asked."""

import numpy as np

from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CrfOpcode, HostAccess, Operand, PimMode
from hw.pim.crf_channel import CrfChannel, CrfFault
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.hbm_pim import HbmPim
from sw.pim.crf_assembler import CrfError, check_program, encode_instruction
from sw.pim.dram import DramChannel
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, put_all, simulate

__all__ = ["HBM2", "INTERVAL", "PHASES", "UNITS", "Recorder", "cells_of", "random_runs", "run"]

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

    def __init__(self, units=UNITS):
        super().__init__()
        self.units = units
        self.accesses, self.reads, self.refusals, self.faults, self.recording = [], [], [], False, True

    def _do(self, kind, act, *, row=0, column=0, unit=0, odd=False, data=None):
        if self.recording and unit < self.units:
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
        if self.recording and found is not None and self.mode is not PimMode.HAB_PIM and unit < self.units:
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


def random_program(rng):
    """Return a program that can run, of up to 8 words; half of them know two registers only."""
    registers = int(rng.choice([2, 8]))
    while True:
        words = []
        for number in range(int(rng.integers(1, 8))):
            opcode = CrfOpcode(int(rng.choice([0, 1, 2, 3, 4, 8, 8, 9, 14])))
            if opcode is CrfOpcode.NOP:
                words.append(encode_instruction(opcode, count=int(rng.integers(0, 3))))
            elif opcode is CrfOpcode.JUMP and number:
                words.append(encode_instruction(opcode, count=int(rng.integers(0, 3)), offset=int(rng.integers(1, number + 1))))
            elif opcode is not CrfOpcode.JUMP:
                fields = {name: int(rng.integers(0, 8)) for name in ("dst", "src0", "src1", "src2")}
                fields |= {name: int(rng.integers(0, registers)) for name in ("dst_index", "src0_index", "src1_index")}
                moves = opcode is CrfOpcode.MOV
                words.append(encode_instruction(opcode, auto=int(rng.random() < 0.3), relu=moves * int(rng.integers(0, 2)),
                                                **fields))
        words.append(encode_instruction(CrfOpcode.EXIT))
        try:
            check_program(words)
        except CrfError:
            continue
        return words


def random_accesses(rng, recorder):
    """Run a program on random registers, then show what it has left."""
    def data():
        return (rng.normal(size=16) * rng.choice([1, 1e3, 1e-5])).astype(np.float16).view(np.uint8)

    recorder.activate(BANK_ROWS["enter_hab"])
    recorder.precharge()
    recorder.load_program(random_program(rng))
    recorder.activate(BANK_ROWS["config"])
    for name in ("srf", "grf_a", "grf_b"):
        for column in list(CONFIG_COLUMNS[name])[:4]:
            recorder.write(column, data())
    recorder.write(0, np.array([1, rng.integers(0, 2)] + [0] * 30, np.uint8))
    recorder.precharge()
    recorder.activate(int(rng.integers(0, 4)))
    for _ in range(24):
        column, odd = int(rng.integers(0, 32)), bool(rng.integers(0, 2))
        if rng.random() < 0.7:
            recorder.read(column, odd=odd)
        else:
            recorder.write(column, data(), odd=odd)
    recorder.precharge()
    show = [encode_instruction(CrfOpcode.MOV, dst=Operand.EVEN_BANK, src0=operand, auto=1)
            for operand in (Operand.GRF_A, Operand.GRF_B, Operand.A_OUT, Operand.M_OUT, Operand.SRF_M, Operand.SRF_A)]
    recorder.activate(BANK_ROWS["config"])
    recorder.write(0, np.zeros(32, np.uint8))
    recorder.precharge()
    recorder.load_program([*show, encode_instruction(CrfOpcode.EXIT)])
    recorder.activate(BANK_ROWS["config"])
    recorder.write(0, np.array([1] + [0] * 31, np.uint8))
    recorder.precharge()
    for row in (8, 9):
        recorder.activate(row)
        for column in range(24):
            recorder.read(column)
        recorder.precharge()
    recorder.activate(BANK_ROWS["config"])
    recorder.write(0, np.zeros(32, np.uint8))
    recorder.precharge()
    recorder.activate(BANK_ROWS["exit_hab"])
    recorder.precharge()
    for row in (8, 9):
        recorder.activate(row)
        for column in range(24):
            recorder.read(column, unit=column % recorder.units)
        recorder.precharge()


def random_runs(seed, *, programs, units=UNITS):
    """Return a recorder of random programs over random banks, and what the banks held at first."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(units)
    recorder.recording = False
    for row in range(4):
        recorder.activate(row)
        for unit in range(units):
            for column in range(32):
                for odd in (False, True):
                    recorder.write(column, rng.normal(size=16).astype(np.float16).view(np.uint8), unit=unit, odd=odd)
        recorder.precharge()
    cells = cells_of(recorder)
    recorder.recording = recorder.faults = True
    for _ in range(programs):
        random_accesses(rng, recorder)
    return recorder, cells
