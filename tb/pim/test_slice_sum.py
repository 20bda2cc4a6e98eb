# amaranth: UnusedElaboratable=no
"""Sum of a row in slices against the golden order of additions, word by word."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.slice_sum import SliceSum
from sw.golden.vector.elements import row_sum
from tb.sim import simulate


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_sums_are_those_of_the_golden_order(lanes):
    rng = np.random.default_rng(lanes)
    dut, rows = SliceSum(lanes=lanes), [(rng.standard_normal(n * lanes) * 10).astype(np.float32) for n in (1, 2, 8, 9, 21)]
    seeds = rng.standard_normal(len(rows)).astype(np.float32)

    async def bench(ctx):
        for row, seed in zip(rows, seeds, strict=True):
            ctx.set(dut.seed, int(seed.view(np.uint32)))
            slices = row.reshape(-1, lanes)
            for number, words in enumerate(slices):
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.last, number == len(slices) - 1)
                for lane, word in enumerate(words):
                    ctx.set(dut.i.data[lane], int(word.view(np.uint32)))
                await ctx.tick()
                ctx.set(dut.i.valid, 0)
                if number % 3 == 2 and number < len(slices) - 1:
                    await ctx.tick()
            cycles = 1
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            assert cycles == dut.latency
            assert ctx.get(dut.o) == int((seed + row_sum(row, lanes)).view(np.uint32))
            await ctx.tick()

    simulate(dut, bench, deadline=5000)


@pytest.mark.parametrize("lanes", [0, 3])
def test_lanes_that_are_no_power_of_two_are_refused(lanes):
    with pytest.raises(ConfigError, match=rf"^SliceSum.lanes must be a power of two, not {lanes}$"):
        SliceSum(lanes=lanes)
