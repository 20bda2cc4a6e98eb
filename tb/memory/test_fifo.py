# amaranth: UnusedElaboratable=no
"""The stream FIFO: order, capacity and rate."""

from typing import Any

import pytest

from hw.errors import ConfigError
from hw.memory.fifo import StreamFIFO
from tb.sim import check_stream, get_all, put_all, simulate


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize(("stall_in", "stall_out"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_order_under_stalls(depth: int, stall_in: float, stall_out: float) -> None:
    dut = StreamFIFO(shape=16, depth=depth)
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
    if not stall_in and not stall_out:
        assert cycles <= len(sent) * (2 if depth == 1 else 1) + dut.latency + 2


def test_bad_depth() -> None:
    with pytest.raises(ConfigError, match=r"^StreamFIFO\.depth must be at least 1, not 0$"):
        StreamFIFO(shape=8, depth=0)
