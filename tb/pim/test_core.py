# amaranth: UnusedElaboratable=no
"""A channel with its control on timing-checked DRAM: command lists against the golden machine, word by word."""

import dataclasses

import numpy as np
import pytest

from hw.elements import FP16
from hw.errors import ConfigError
from hw.pim.channel import dram_phases
from hw.pim.core import PimCore
from hw.pim.io_unit import IoUnit
from hw.pim.isa import PimErrorCause
from hw.pim.presets import PIM_PRESETS
from hw.pim.softmax_unit import SoftmaxUnit
from hw.pim.timing_tables import DramCommand
from sw.golden.pim.machine import PimMachine
from sw.pim.assembler import assemble
from sw.pim.codes import packed
from sw.pim.dram import DramChannel
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, get_all, put_all, simulate

SMALL = dataclasses.replace(PIM_PRESETS["pim-tiny"], streams=1, lanes=8, rows_x=2, k_tile=64, xbuf_entries=16, obuf_entries=32,
                            sm_lanes=1)


def host_words(config, values):
    """Return values as host words, the last one filled up."""
    data = np.ascontiguousarray(values).tobytes()
    return [int.from_bytes(data[i:i + config.word_bytes], "little") for i in range(0, len(data), config.word_bytes)]


class Bench:
    """A core and its DRAM, the golden machine beside it, and lists to run one after the other."""

    def __init__(self, config):
        self.config, self.dut, self.machine = config, PimCore(config, commands=64), PimMachine(config)
        self.model = DramModel(DramChannel(config.dram, interval=config.interval, rows=config.dram_rows),
                               streams=config.streams, phases=dram_phases(config))
        self.lists, self.words, self.results = [], [], 0

    def weights(self, grp, row, values):
        self.machine.write_row(grp, row, values)
        width = self.config.burst_bytes * self.config.streams
        codes = values if values.dtype.kind == "u" else values.astype(np.float16).view(np.uint16)
        for column, burst in enumerate(packed(codes.reshape(-1), self.config.weight_bits).reshape(-1, width)):
            stripes = self.config.stripes
            self.model.fill(grp * stripes + column % stripes, row, column // stripes, burst)

    def x(self, slices):
        self.machine.host_in.extend(slices)
        self.words += host_words(self.config, slices if slices.dtype.kind == "u" else slices.astype(np.float16))

    def bias(self, entries):
        entries = entries.astype(self.config.acc)
        self.machine.host_in.extend(entries)
        self.words += host_words(self.config, entries)

    def side(self, values):
        """Add what one WRS or DQA takes."""
        self.machine.host_in.append(values)
        self.words += host_words(self.config, values)

    def list(self, text, results=0):
        """Add a list, text or words, that leaves `results` entries; the golden machine runs it now, if it can."""
        words = assemble(text) if isinstance(text, str) else text
        self.results += results
        before = len(self.machine.host_out)
        if results:
            self.machine.run(words)
        self.lists.append((words, slice(before, before + results)))

    def run(self, *, stall, seed):
        """Run all lists; return of each its entries, (n, X, lanes), the golden ones, error, index, cycles and MAC beats."""
        dut, config, out, outcomes, misuse, active = self.dut, self.config, [], [], [], 0

        async def host(ctx):
            for words, _ in self.lists:
                for address, word in enumerate(words):
                    ctx.set(dut.write.address, address)
                    ctx.set(dut.write.data, int(word))
                    ctx.set(dut.write.valid, 1)
                    await ctx.tick()
                ctx.set(dut.write.valid, 0)
                ctx.set(dut.go, 1)
                await ctx.tick()
                ctx.set(dut.go, 0)
                cycles, beats = 0, active
                while ctx.get(dut.busy):
                    await ctx.tick()
                    cycles += 1
                misuse.append(1) if ctx.get(dut.softmax_misuse) else None
                outcomes.append((PimErrorCause(ctx.get(dut.error)), ctx.get(dut.index), cycles, active - beats))

        async def count(ctx):
            nonlocal active
            async for _, _, one in ctx.tick().sample(dut.active):
                active += one

        results = self.results * 4 * config.width * config.rows_x // config.word_bytes
        simulate(dut, host, get_all(dut.host_out, results, out, stall=stall, seed=seed + 1),
                 background=[lambda ctx: self.model.serve(ctx, dut.dram), count, check_stream(dut.host_out),
                             put_all(dut.host_in, self.words, stall=stall, seed=seed)], seed=seed, deadline=20_000)
        found = np.frombuffer(b"".join(word.to_bytes(config.word_bytes, "little") for word in out), config.acc)
        found = found.reshape(-1, config.rows_x, config.width)
        assert self.model.dram.violations.total() == 0
        assert not misuse
        golden = np.array(self.machine.host_out)
        return [(found[part], golden[part], *outcome) for (_, part), outcome in zip(self.lists, outcomes, strict=True)]


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


PRODUCT = ("setm k_beats, 8\nwrx cnt=7\nmodi 0, grp, 1\nmodi 0, aidx, 8\nloop 2, 1\nmac row=5 cnt=31 clr last\n"
           "rdacc cnt=15\neoc")
REFUSED = {
    "nop\nmac grp=1 row=128\neoc": ("ROW_RANGE", 2), "mac col=31 cnt=1\neoc": ("COLUMN_RANGE", 1),
    "wrx xidx=15 cnt=1\neoc": ("XBUF_RANGE", 1), "rdacc aidx=31 cnt=1\neoc": ("OBUF_RANGE", 1),
    "ewmul xidx=15\neoc": ("XBUF_RANGE", 1), "ewadd col=31 cnt=1\neoc": ("COLUMN_RANGE", 1),
    "mac mode=bcast aidx=31\neoc": ("OBUF_RANGE", 1), "mac mode=2\neoc": ("ILLEGAL_COMMAND", 1),
    "sfo value=1\neoc": ("HEAD_RANGE", 1), "setm k_beats, 0\nmac\neoc": ("HEAD_RANGE", 2),
    "setm k_beats, 18\nmac mode=bcast cnt=8\neoc": ("OBUF_RANGE", 2), "wrx xidx=1024\neoc": ("XBUF_RANGE", 1),
}


EXPLICIT = ("setm k_beats, 8\nwrx cnt=7\nact grp=2 row=9\nmode cnt=1\nact row=5\nact grp=1 row=5\nmac row=5 cnt=31 clr last\n"
            "pre\npre grp=1\nref\nact grp=1 row=5\nmac grp=1 row=5 cnt=31 aidx=8 clr last\npre grp=1\nref grp=1\nmode\n"
            "mac row=5 cnt=31 aidx=8 last\npre\nrdacc cnt=15\neoc")
MISUSED = {
    "mac": 2, "act\nmac row=1": 3, "act\nmac grp=1": 3, "act row=3\nact row=3": 3, "act\nref grp=2": 3, "act\npre\newmul": 4,
    "setm head_dim, 16\nsetm max_tokens, 2\nact\nkvap aidx=1 clr\nkvap aidx=1": None, "mode\nmode cnt=2": 3,
    "setm head_dim, 16\nsetm max_tokens, 2\nseth v_row, 1, 2\nact row=1\nkvap aidx=1 clr": 6,
}


def test_rows_by_command():
    rng = np.random.default_rng(8)
    bench = Bench(SMALL)
    for grp in range(2):
        bench.weights(grp, 5, halves(rng, 8, 64))
    bench.x(halves(rng, 8, 2, 8))
    bench.list(EXPLICIT, 16)
    for text in MISUSED:
        bench.list(f"setm k_beats, 2\nmode cnt=1\n{text}\neoc")
    (found, golden, error, *_), *misused = bench.run(stall=0.0, seed=8)
    assert error is PimErrorCause.NONE
    np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    # What was opened ahead, then what MODE 1 says, one after the other; at last by the row engine again.
    bursts = (DramCommand.RD, DramCommand.WR)
    seen = [(one.command.name, one.set, one.where) for one in bench.model.log if one.command not in bursts]
    assert seen[:12] == [
        ("ACT", 2, 9), ("ACT", 0, 5), ("ACT", 1, 5), ("PRE", 0, 0), ("PRE", 1, 0), ("PRE", 0, 0), ("REF", 0, 0), ("ACT", 1, 5),
        ("PRE", 1, 0), ("REF", 0, 0), ("ACT", 0, 5), ("PRE", 0, 0)]
    for (text, at), (_, _, error, index, *_) in zip(MISUSED.items(), misused, strict=True):
        cause = "NONE" if at is None else "ILLEGAL_COMMAND" if "cnt=2" in text else "ROW_STATE"
        assert (error.name, index if at else None) == (cause, at), text


def test_bursts_of_two_bank_groups_in_turn():
    # The buffer-die mode of AttAcc, smaller: a burst every CCD_S, which is a cycle.
    config = dataclasses.replace(SMALL, interval=2, pim_per_burst=1, lanes=16, rows_x=1, xbuf_entries=8)
    rng, bench = np.random.default_rng(9), Bench(config)
    for grp in range(2):
        bench.weights(grp, 5, halves(rng, 16, 64))
    bench.x(halves(rng, 4, 1, 16))
    bench.list("setm k_beats, 4\nwrx cnt=3\nmac row=5 cnt=63 clr last\nmac grp=1 row=5 cnt=63 aidx=16 clr last\n"
               "wrcp grp=1 row=7 col=5 cnt=2\nrdcp grp=1 row=7 col=6 cnt=1 xidx=4\nmac grp=1 row=7 col=4 cnt=3 clr last xidx=2\n"
               "rdacc cnt=31\neoc", 32)
    ((found, golden, error, *_),) = bench.run(stall=0.0, seed=9)
    assert error is PimErrorCause.NONE
    np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    reads = bench.model.times(DramCommand.RD)[:128]
    assert set(np.diff(reads[1:])) == {config.dram.ccd_s}
    with pytest.raises(ConfigError, match=r"^PimConfig.interval must be at least 4, or from 2 on with one stream and refreshes "
                                          r"by rank, not 2$"):
        dataclasses.replace(config, streams=2, lanes=32)


def random_list(rng, bench):
    """Add a list of products, loads and reads in any order, and what it takes from the host."""
    segments, rows = bench.config.segments, bench.config.rows_x
    text, results = "setm k_beats, 4\nwracc cnt=15\nwrx cnt=15\n", 10
    bench.bias(halves(rng, 16, rows, 8))
    bench.x(halves(rng, 16, rows, 8))
    for _ in range(8):
        x, a, row, grp = int(rng.integers(0, 9)), int(rng.integers(0, 9)), int(rng.integers(0, 3)), int(rng.integers(0, 3))
        place = f"row={row} grp={grp} aidx={a} last {rng.choice(['', 'clr'])}"
        match int(rng.integers(0, 6)):
            case 0:
                text += f"wrx xidx={x} cnt=1\n"
                bench.x(halves(rng, 2, rows, 8))
            case 1:
                text += f"rdacc aidx={a} cnt=1\n"
                results += 2
            case 2:
                text += f"wracc aidx={a}\n"
                bench.bias(halves(rng, 1, rows, 8))
            case 3:
                text += f"setm k_beats, {rng.integers(1, 7)}\nmac xidx={x} cnt={2 * int(rng.integers(1, 4)) - 1} {place}\n"
            case 4:
                text += f"{rng.choice(['ewmul', 'ewadd'])} xidx={x} cnt={int(rng.integers(0, 4))} row={row} grp={grp}\n"
            case _:
                element = 8 * x + (0 if segments > 1 else 3)        # of several segments a multiple of their number
                text += f"setm k_beats, {rng.choice([1, 2, 3, 4, 6])}\nmac mode=bcast xidx={element} cnt=5 {place}\n"
    bench.list(text + "rdacc cnt=9\neoc", results)


def bench_of(*, lists, seed, **changes):
    """Return a bench with weights, the product and random lists."""
    rng = np.random.default_rng(seed)
    bench = Bench(dataclasses.replace(SMALL, **changes))
    many = bench.config.segments
    for row in range(2):
        bench.weights(row, 5, halves(rng, 8, 64 * many))
    for row in range(3):
        for grp in range(3):
            bench.weights(grp, row, halves(rng, 8, 16 * many))
    bench.x(halves(rng, 8, bench.config.rows_x, 8))
    bench.list(PRODUCT, 16)
    for _ in range(lists):
        random_list(rng, bench)
    return bench


def check(outcomes):
    """Compare with the golden machine; entries of the product have lane 0 only, from 16 on."""
    for found, golden, error, *_ in outcomes:
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    for found, golden, *_ in outcomes[1:]:
        np.testing.assert_array_equal(found, golden)


def test_lists_leave_what_the_golden_machine_leaves_and_errors_stop_them():
    bench = bench_of(dcs=True, lists=2, seed=1)
    for text in REFUSED:
        bench.list(f"setm k_beats, 2\n{text}")
    random_list(np.random.default_rng(2), bench)
    outcomes = bench.run(stall=0.1, seed=1)
    check([outcome for outcome in outcomes if len(outcome[0])])
    assert outcomes[0][5] == 2 * 8 * 64 // 8            # every beat is multiplied once
    assert outcomes[0][4] < 500
    for (cause, index), (_, _, error, at, _, beats) in zip(REFUSED.values(), outcomes[3:-1], strict=True):
        assert (error, at, beats) == (PimErrorCause[cause], index, 0)


def test_without_dynamic_scheduling_the_results_are_the_same():
    check(bench_of(dcs=False, lists=1, seed=3).run(stall=0.0, seed=3))


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"^PimConfig.dram_rows must be a power of two with more than 16 sets of banks, "
                                          r"not 60$"):
        PimCore(dataclasses.replace(SMALL, dram_rows=60))
    with pytest.raises(ConfigError, match=r"^SoftmaxUnit.heads must be at least 1, not 0$"):
        SoftmaxUnit(weight=FP16, lanes=8, rows=2, slices=4, entries=4, heads=0, scores=8)
    with pytest.raises(ConfigError, match=r"^IoUnit.lanes must make a row of 16-bit elements a multiple of 32 bits, not 3$"):
        IoUnit(bits=16, lanes=3, rows=1, slices=1, entries=1, wide=1)
