"""The accumulator with floating-point activations: float32 sums in order, rows again at the distance that engines keep."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.memory.accumulator import Accumulator
from hw.timing import FLOAT_ACCUMULATOR_LATENCY
from sw.golden.array.operands import add_floats
from tb.sim import simulate

CONFIG = AcceleratorConfig(engine="float", rows=2, columns=2, vector_lanes=2, dataflows=("ws",), activation_format="bf16",
                           weight_format="bf16", vector="transformer", accumulator_rows=16, accumulator_banks=2)
WORDS = [0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 1, 0x80_0000, 0x7F7F_FFFF]


def test_latency_is_that_of_the_table() -> None:
    dut = Accumulator(CONFIG)
    dut._MustUse__used = True
    assert dut.latency == FLOAT_ACCUMULATOR_LATENCY == 8


@pytest.mark.parametrize("seed", range(2))
def test_random_rows(seed: int) -> None:
    """Rows written and read at random; a row is added to again after 8 cycles at the earliest, and read from then on."""
    rng = random.Random(seed)
    dut = Accumulator(CONFIG)
    rows = CONFIG.accumulator_rows
    model = np.zeros((rows, CONFIG.columns), np.int64)
    last = [-100] * rows
    at_once = 0

    def word() -> int:
        return rng.choice(WORDS) if rng.random() < 0.2 else int(np.float32(rng.gauss(0, 1)).view(np.uint32))

    async def traffic(ctx: Any) -> None:
        nonlocal at_once
        expected = None
        for cycle in range(600):
            ready = [row for row in range(rows) if cycle - last[row] >= dut.latency]
            soonest = [row for row in ready if cycle - last[row] == dut.latency]
            valid = bool(ready) and rng.random() < 0.9
            row = rng.choice(soonest or ready) if valid else 0
            accumulate, values = int(rng.random() < 0.8), [word() for _ in range(CONFIG.columns)]
            at_once += valid and row in soonest and accumulate
            read = rng.choice(soonest or ready) if ready else None
            ctx.set(dut.write.valid, valid)
            ctx.set(dut.write.addr, row)
            ctx.set(dut.write.accumulate, accumulate)
            ctx.set(dut.write.data, values)
            ctx.set(dut.read.valid, read is not None)
            ctx.set(dut.read.addr, read or 0)
            assert not ctx.get(dut.saturated)
            if expected is not None:
                assert [ctx.get(dut.read.data[c]) & 0xFFFF_FFFF for c in range(CONFIG.columns)] == expected
            expected = model[read].tolist() if read is not None and ctx.get(dut.read.ready) else None
            if valid:
                add_floats(model[row:row + 1], np.array([values], np.uint64), accumulate=bool(accumulate))
                last[row] = cycle
            await ctx.tick()

    simulate(dut, traffic)
    assert at_once > 30
