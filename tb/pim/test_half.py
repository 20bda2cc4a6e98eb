"""Float16 sums and products against numpy: corner cases with each other, and random words."""

import numpy as np
import pytest
from amaranth import Module, Signal

from hw.pim.half_add import HalfAdd
from hw.pim.half_multiply import HalfMultiply
from tb.sim import simulate

CORNERS = [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x0401, 0x3BFF, 0x3C00, 0x3C01, 0x4000, 0x7BFE, 0x7BFF, 0x7C00, 0x7E00]


def pairs(rng):
    words = np.array([*CORNERS, *(word | 0x8000 for word in CORNERS)], np.uint16)
    a, b = (grid.ravel() for grid in np.meshgrid(words, words))
    free = rng.integers(0, 1 << 16, (2, 1500), dtype=np.uint16)
    near = free[0] ^ rng.choice([0x8000, 0x8001, 0x8400, 0x03FF, 0xBC00], 1500).astype(np.uint16)
    return np.concatenate((a, free[0], free[0])), np.concatenate((b, free[1], near))


@pytest.mark.parametrize(("block", "function"), [(HalfAdd, np.add), (HalfMultiply, np.multiply)], ids=["add", "multiply"])
def test_words_are_those_of_numpy(block, function):
    a, b = pairs(np.random.default_rng(1))
    with np.errstate(all="ignore"):
        golden = function(a.view(np.float16), b.view(np.float16))
    expected = np.where(np.isnan(golden), 0x7E00, golden.view(np.uint16))
    dut = block()

    async def bench(ctx):
        for x, y, word in zip(a, b, expected, strict=True):
            ctx.set(dut.a, int(x))
            ctx.set(dut.b, int(y))
            assert ctx.get(dut.o) == word, (hex(x), hex(y))

    top = Module()
    top.submodules.dut = dut
    top.d.sync += Signal().eq(1)                    # the simulator wants a clock
    simulate(top, bench)
