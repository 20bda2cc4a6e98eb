# amaranth: UnusedElaboratable=no
"""Entries of the output buffer that a unit wants while the end of a BCAST accumulation reads others: nothing else is taken."""

import numpy as np
import pytest

from hw.elements import FP16
from hw.pim.activation_unit import ActivationUnit
from hw.pim.io_unit import IoUnit
from hw.pim.isa import AF_MODES, PimOpcode
from tb.pim.test_compute import halves, path
from tb.sim import simulate

LANES, ROWS, ENTRIES = 4, 2, 8


def buffer(dut, words, busy, rng):
    """Return a bench that reads entries for a unit, and others in a share of the cycles."""
    def joined(entry):
        return sum(int(word) << 32 * index for index, word in enumerate(words[entry].T.reshape(-1)))

    async def bench(ctx):
        while True:
            taken = rng.random() < busy
            ctx.set(dut.readable, int(not taken))
            seen = joined(int(rng.integers(0, ENTRIES)) if taken else ctx.get(dut.entry))
            await ctx.tick()
            ctx.set(dut.o.as_value(), seen)

    return bench


@pytest.mark.parametrize("busy", [0.0, 0.7])
def test_entries_that_leave_for_the_host(busy):
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, (ENTRIES, ROWS, LANES), dtype=np.uint32)
    dut, found = IoUnit(bits=16, lanes=LANES, rows=ROWS, slices=4, entries=ENTRIES, wide=ENTRIES), []

    async def bench(ctx):
        ctx.set(dut.i.p, {"op": PimOpcode.RDACC.value, "cnt": ENTRIES - 1, "first": 0})
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.host_out.ready, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        while ctx.get(dut.busy):
            if ctx.get(dut.host_out.valid):
                found.append(ctx.get(dut.host_out.p))
            await ctx.tick()

    simulate(dut, bench, background=[buffer(dut, words, busy, rng)])
    assert b"".join(word.to_bytes(8, "little") for word in found) == words.tobytes()


@pytest.mark.parametrize("mode", ["identity", "gated"])
def test_entries_that_are_activated(mode):
    rng = np.random.default_rng(2)
    words = (rng.standard_normal((ENTRIES, ROWS, LANES)) * 2).astype(np.float32).view(np.uint32)
    results = []
    for busy in (0.0, 0.6):
        dut, slices = ActivationUnit(element=FP16, lanes=LANES, rows=ROWS, slices=4, entries=ENTRIES), {}

        async def bench(ctx, dut=dut, slices=slices):
            ctx.set(dut.i.p, {"cnt": 2, "entry": 1, "slice": 0, "mode": AF_MODES.index(mode), "gather": 0})
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.x_ready, 1)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            while ctx.get(dut.busy):
                if ctx.get(dut.x.valid):
                    slices[ctx.get(dut.x.slice), ctx.get(dut.x.row)] = ctx.get(dut.x.data.as_value())
                await ctx.tick()

        simulate(dut, bench, background=[buffer(dut, words, busy, rng)])
        results.append(slices)
    assert len(results[0]) == 3 * ROWS
    assert results[0] == results[1]


def test_the_end_of_an_accumulation_says_that_it_reads():
    """While it adds what entries have, only cycles that are `readable` give the entry that was asked for."""
    rng = np.random.default_rng(3)
    dut, blocked = path(rows=1), []

    async def bench(ctx):
        for entry in range(ENTRIES):
            ctx.set(dut.write.entry, entry)
            ctx.set(dut.write.lanes, 1)
            ctx.set(dut.write.data[0][0], entry)
            ctx.set(dut.write.valid, 1)
            await ctx.tick().until(dut.ready)
        ctx.set(dut.write.valid, 0)
        ctx.set(dut.job.payload, {"bcast": 1, "period": 1, "bursts": 0, "last": 1})
        ctx.set(dut.job.valid, 1)
        await ctx.tick().until(dut.job.ready)
        ctx.set(dut.job.valid, 0)
        ctx.set(dut.weight.valid, 1)
        for weights in halves(rng, 2, 4).view(np.uint16):
            ctx.set(dut.weight.payload, sum(int(code) << 16 * lane for lane, code in enumerate(weights)))
            await ctx.tick().until(dut.weight.ready)
        ctx.set(dut.weight.valid, 0)
        cycles = 0
        while not ctx.get(dut.idle) or cycles < 100:
            entry = 4 + cycles % 4              # of those that the accumulation is not for
            ctx.set(dut.entry, entry)
            readable = ctx.get(dut.readable)
            await ctx.tick()
            if readable:
                assert ctx.get(dut.o[0][0]) == entry
            else:
                blocked.append(cycles)
            cycles += 1

    simulate(dut, bench)
    assert len(blocked) == 2
