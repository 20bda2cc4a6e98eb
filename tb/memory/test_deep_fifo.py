# amaranth: UnusedElaboratable=no
"""The deep FIFO: order, capacity, rate and latency."""

from typing import Any

import pytest

from hw.errors import ConfigError
from hw.memory.deep_fifo import DeepFIFO
from tb.sim import check_stream, get_all, put_all, simulate


@pytest.mark.parametrize("depth", [1, 3, 4, 9])
@pytest.mark.parametrize(("stall_in", "stall_out"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_order_under_stalls(depth: int, stall_in: float, stall_out: float) -> None:
    dut = DeepFIFO(shape=16, depth=depth)
    sent, got, levels = list(range(1000, 1100)), [], []

    async def watch(ctx: Any) -> None:
        async for _, _, level in ctx.tick().sample(dut.level):
            levels.append(level)

    cycles = simulate(dut, put_all(dut.i, sent, stall=stall_in, seed=1), get_all(dut.o, len(sent), got, stall=stall_out, seed=2),
                      background=[check_stream(dut.o), watch], seed=1)
    assert got == sent
    assert max(levels) <= depth
    if stall_out and not stall_in:
        assert max(levels) == depth
    if not stall_in and not stall_out and depth >= 4:
        assert cycles <= len(sent) + dut.latency + 2


def test_latency_and_level() -> None:
    dut = DeepFIFO(shape=8, depth=4)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.i.payload, 77)
        ctx.set(dut.i.valid, 1)
        for cycle in range(dut.latency):
            assert (ctx.get(dut.o.valid), ctx.get(dut.level)) == (0, int(cycle > 0))
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
        assert (ctx.get(dut.o.valid), ctx.get(dut.o.payload), ctx.get(dut.level)) == (1, 77, 1)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert (ctx.get(dut.o.valid), ctx.get(dut.level)) == (0, 0)

    simulate(dut, bench)


def test_bad_depth() -> None:
    with pytest.raises(ConfigError, match=r"^DeepFIFO\.depth must be at least 1, not 0$"):
        DeepFIFO(shape=8, depth=0)
