# amaranth: UnusedElaboratable=no
"""The sparse PE: sums are products of what was compressed; it multiplies in Σ nnzW(c)·nnzA(c) cycles on end, and never a zero."""

from typing import Any

import numpy as np
import pytest

from hw.pe.sparse import SparsePE
from sw.sparsity.cores import eyeriss_pe_cycles
from tb.sim import put_one, simulate

CHANNELS, OUTPUTS = 16, 12


async def load(ctx: Any, dut: SparsePE, w: np.ndarray) -> None:
    """Write weights (outputs, channels), compressed by channel."""
    place = 0
    ctx.set(dut.write_en, 1)
    for channel in range(CHANNELS):
        first = place
        for output in np.flatnonzero(w[:, channel]):
            ctx.set(dut.write_place, place)
            ctx.set(dut.write_value, int(w[output, channel]))
            ctx.set(dut.write_output, int(output))
            place += 1
            await ctx.tick()
        ctx.set(dut.bound_channel, channel)
        ctx.set(dut.bound_first, first)
        ctx.set(dut.bound_end, place)
        ctx.set(dut.write_en, 0)
        ctx.set(dut.bound_en, 1)
        await ctx.tick()
        ctx.set(dut.write_en, 1)
        ctx.set(dut.bound_en, 0)
    ctx.set(dut.write_en, 0)


@pytest.mark.parametrize(("weight_density", "activation_density"), [(0.5, 0.7), (0.8, 0.3), (1.0, 1.0), (0.3, 0.9)])
def test_cycles_are_pairs_of_non_zeros(weight_density: float, activation_density: float) -> None:
    rng = np.random.default_rng(4)
    w = np.where(rng.random((OUTPUTS, CHANNELS)) < weight_density, rng.integers(1, 128, (OUTPUTS, CHANNELS)), 0)
    w[:, [3, 9]] = 0                                # channels that have no weight, and cost nothing
    w[0] *= -1
    a = np.where(rng.random((6, CHANNELS)) < activation_density, rng.integers(-128, 0, (6, CHANNELS)), 0)
    dut = SparsePE(channels=CHANNELS, outputs=OUTPUTS, weights=OUTPUTS * CHANNELS)
    issued: list[int] = []
    sums: list[int] = []

    async def watch(ctx: Any) -> None:
        async for _, _, multiply in ctx.tick().sample(dut.multiply):
            issued.append(multiply)

    async def drive(ctx: Any) -> None:
        await load(ctx, dut, w)
        issued.clear()
        for token in a:
            for channel in np.flatnonzero(token):
                await put_one(ctx, dut.i, {"value": int(token[channel]), "channel": int(channel)})
        while ctx.get(dut.busy):
            await ctx.tick()
        for output in range(OUTPUTS):
            ctx.set(dut.output, output)
            sums.append(ctx.get(dut.psum))
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert ctx.get(dut.psum) == 0

    simulate(dut, drive, background=[watch])
    assert sums == (w @ a.T).sum(axis=1).tolist()
    law = eyeriss_pe_cycles(w != 0, a != 0)
    first = issued.index(1)
    assert sum(issued) == law
    assert all(issued[first:first + law])           # one on end, without a bubble


def test_channels_without_weights_leave_nothing() -> None:
    """Only activations of empty channels: taken, one a cycle, and no MAC is issued."""
    dut = SparsePE(channels=4, outputs=2, weights=4)

    async def drive(ctx: Any) -> None:
        for _ in range(40):
            ctx.set(dut.i.p, {"value": 5, "channel": 2})
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            assert not ctx.get(dut.multiply)
            await ctx.tick()
        assert not ctx.get(dut.busy)

    simulate(dut, drive)
