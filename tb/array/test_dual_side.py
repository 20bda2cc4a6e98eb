# amaranth: UnusedElaboratable=no
"""The dual-side sparse core: products, rows, cycles by the law of DSTC; packing of vectors; refusals."""

from typing import Any

import numpy as np
import pytest

from hw.array.compactor import Compactor
from hw.array.dual_side import DualSideCore
from hw.errors import ConfigError
from sw.sparsity.cores import DSTC_TILE, dstc_cycles
from tb.sim import put_one, simulate

DEPTH = 12
SHAPES = [((8, 8), (2, 4)), ((4, 8), (4, 8)), ((4, 4), (1, 1)), ((32, 32), (8, 16))]


def law(left: np.ndarray, right: np.ndarray, lanes: tuple[int, int]) -> int:
    """Return Σ over k of ⌈nnz/L1⌉·⌈nnz/L2⌉."""
    return sum(-(-np.count_nonzero(a) // lanes[0]) * -(-np.count_nonzero(b) // lanes[1])
               for a, b in zip(left.T, right, strict=True))


def side(vector: np.ndarray) -> dict[str, Any]:
    """Return a vector as the core takes it."""
    packed = vector[vector != 0]
    return {"mask": sum(1 << int(place) for place in np.flatnonzero(vector)),
            "values": np.pad(packed, (0, len(vector) - len(packed))).tolist()}


@pytest.mark.parametrize(("tile", "lanes"), SHAPES)
def test_products_and_cycles(tile: tuple[int, int], lanes: tuple[int, int]) -> None:
    """Tiles of every pair of densities, one after the other: rows are the product; cycles from tile to tile are the law's and one
    for each row; the products of all steps are the pairs that are not zero.

    The last shape is that of DSTC.
    """
    rng = np.random.default_rng(1)
    dut = DualSideCore(tile=tile, lanes=lanes, tag_width=4)
    tiles = []
    for densities in ((1.0, 1.0), (0.5, 0.3), (0.2, 0.9), (0.3, 0.3)):
        rows = tile[0] - len(tiles)
        left, right = (np.where(rng.random(shape) < density, rng.integers(-128, 128, shape), 0)
                       for density, shape in zip(densities, ((tile[0], DEPTH), (DEPTH, tile[1])), strict=True))
        left[rows:] = 0
        tiles.append((left, right, rows))
    found: list[tuple[int, int, int, list[int]]] = []
    products = 0

    async def drive(ctx: Any) -> None:
        for tag, (left, right, rows) in enumerate(tiles):
            live = [k for k in range(DEPTH) if left[:, k].any() and right[k].any()]
            for k in live:
                await put_one(ctx, dut.i, {"left": side(left[:, k]), "right": side(right[k]), "last": k == live[-1],
                                           "rows": rows, "tag": tag})
        while ctx.get(dut.busy):
            await ctx.tick()

    async def record(ctx: Any) -> None:
        nonlocal products
        cycle = 0
        async for _, _, made, valid, row, last, tag, sums in ctx.tick().sample(
                dut.products, dut.o_valid, dut.o_row, dut.o_last, dut.o_tag, dut.o):
            products += made
            if valid:
                found.append((cycle, tag, row, [sums[c] for c in range(tile[1])]))
                assert last == (row == tiles[tag][2] - 1)
            cycle += 1

    simulate(dut, drive, background=[record])
    place = iter(found)
    ends = []
    for tag, (left, right, rows) in enumerate(tiles):
        expected = left @ right
        for row in range(rows):
            cycle, *rest = next(place)
            assert rest == [tag, row, expected[row].tolist()]
        ends.append(cycle)
    assert next(place, None) is None
    for before, after, (left, right, rows) in zip(ends, ends[1:], tiles[1:], strict=False):
        steps = law(left, right, lanes)
        assert after - before == steps + rows
        if tile[0] == DSTC_TILE:
            assert steps == dstc_cycles(left != 0, right != 0)
    assert products == sum(int((left != 0).sum(axis=0) @ (right != 0).sum(axis=1)) for left, right, _ in tiles)


def test_an_empty_pair_takes_a_cycle_and_ends_a_tile() -> None:
    """Sums of what came before leave; without anything, zeros."""
    dut = DualSideCore(tile=(4, 4), lanes=(2, 2))
    found = []
    nothing, three = side(np.zeros(4, int)), side(np.array([0, 3, 0, 0]))

    async def drive(ctx: Any) -> None:
        for left, right, last in ((three, three, 0), (nothing, nothing, 1), (nothing, nothing, 1)):
            await put_one(ctx, dut.i, {"left": left, "right": right, "last": last, "rows": 2})
        while ctx.get(dut.busy):
            await ctx.tick()

    async def record(ctx: Any) -> None:
        async for _, _, valid, sums in ctx.tick().sample(dut.o_valid, dut.o):
            if valid:
                found.append([sums[c] for c in range(4)])

    simulate(dut, drive, background=[record])
    assert found == [[0] * 4, [0, 9, 0, 0], [0] * 4, [0] * 4]


@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_packing_of_vectors(lanes: int) -> None:
    """All masks of few lanes, random ones of many: what is kept lies at the bottom, in its order."""
    rng = np.random.default_rng(lanes)
    masks = range(1 << lanes) if lanes <= 8 else [0, (1 << lanes) - 1, 1 << lanes - 1, *rng.integers(0, 1 << lanes, 200).tolist()]
    dut = Compactor(lanes=lanes)

    async def drive(ctx: Any) -> None:
        for mask in masks:
            values = rng.integers(-128, 128, lanes)
            ctx.set(dut.i, values.tolist())
            ctx.set(dut.keep, mask)
            ctx.set(dut.en, 1)
            await ctx.tick()
            ctx.set(dut.en, 0)
            ctx.set(dut.keep, 0)
            await ctx.tick()
            kept = [int(value) for lane, value in enumerate(values) if mask >> lane & 1]
            assert [ctx.get(dut.o[lane]) for lane in range(len(kept))] == kept

    simulate(dut, drive)


def test_lanes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"^DualSideCore\.lanes must divide the tile of 8, not 3 \(L2\)$"):
        DualSideCore(tile=(4, 8), lanes=(2, 3))
    with pytest.raises(ConfigError, match=r"^Compactor\.lanes must be a power of two, at least 2, not 6$"):
        Compactor(lanes=6)
