# amaranth: UnusedElaboratable=no
"""The dual-side sparse core: products, and cycles by the law of DSTC, empty vectors included; refusals."""

from typing import Any

import numpy as np
import pytest

from hw.array.dual_side import DualSideCore
from hw.errors import ConfigError
from sw.sparsity.cores import DSTC_TILE, dstc_cycles
from tb.sim import simulate

DEPTH = 12
SHAPES = [(8, (2, 4)), (8, (4, 8)), (4, (1, 1)), (32, (8, 16))]


def law(left: np.ndarray, right: np.ndarray, lanes: tuple[int, int]) -> int:
    """Return Σ over k of ⌈nnz/L1⌉·⌈nnz/L2⌉."""
    return sum(-(-np.count_nonzero(a) // lanes[0]) * -(-np.count_nonzero(b) // lanes[1])
               for a, b in zip(left.T, right, strict=True))


async def multiply(ctx: Any, dut: DualSideCore, left: np.ndarray, right: np.ndarray) -> int:
    """Write both operands, run; return the cycles from `start` to `done`."""
    for k in range(DEPTH):
        for side, vector in ((0, left[:, k]), (1, right[k])):
            packed = vector[vector != 0]
            ctx.set(dut.write, {"mask": int((vector != 0) @ (1 << np.arange(len(vector)))),
                                "values": np.pad(packed, (0, len(vector) - len(packed))).tolist()})
            ctx.set(dut.write_side, side)
            ctx.set(dut.write_k, k)
            ctx.set(dut.write_en, 1)
            await ctx.tick()
    ctx.set(dut.write_en, 0)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    cycles = 1
    while not ctx.get(dut.done):
        await ctx.tick()
        cycles += 1
    await ctx.tick()
    return cycles


async def sums_of(ctx: Any, dut: DualSideCore) -> list[list[int]]:
    found = []
    for row in range(dut.tile):
        ctx.set(dut.row, row)
        sums = ctx.get(dut.sums)
        found.append([sums[column] for column in range(dut.tile)])
    return found


@pytest.mark.parametrize(("tile", "lanes"), SHAPES)
def test_products_and_cycles(tile: int, lanes: tuple[int, int]) -> None:
    """At every pair of densities: the sums are the product, the cycles the law's and 5; runs without `clear` add up.

    The last shape is that of DSTC.
    """
    rng = np.random.default_rng(1)
    dut = DualSideCore(tile=tile, lanes=lanes, depth=DEPTH)

    async def drive(ctx: Any) -> None:
        total = np.zeros((tile, tile), np.int64)
        empty = 0
        for densities in ((1.0, 1.0), (0.5, 0.3), (0.2, 0.9), (0.1, 0.1), (0.0, 0.5)):
            left, right = (np.where(rng.random(shape) < density, rng.integers(-128, 128, shape), 0)
                           for density, shape in zip(densities, ((tile, DEPTH), (DEPTH, tile)), strict=True))
            empty += sum(not a.any() or not b.any() for a, b in zip(left.T, right, strict=True))
            expected = law(left, right, lanes)
            if tile == DSTC_TILE:
                assert expected == dstc_cycles(left != 0, right != 0)
            assert await multiply(ctx, dut, left, right) == (expected + dut.latency if expected else 1)
            total += left @ right
            assert await sums_of(ctx, dut) == total.tolist()
            if densities[0] == 0.2:
                ctx.set(dut.clear, 1)
                await ctx.tick()
                ctx.set(dut.clear, 0)
                total[:] = 0
        assert empty > DEPTH

    simulate(dut, drive)


def test_lanes_that_do_not_divide_the_tile() -> None:
    with pytest.raises(ConfigError, match=r"^DualSideCore\.lanes must divide the tile of 8, not 3 \(L2\)$"):
        DualSideCore(tile=8, lanes=(2, 3), depth=4)
