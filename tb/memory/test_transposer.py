"""The byte transposer by itself: blocks turned, padded, tagged and marked as bad, one beat a cycle."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.memory.transposer import Transposer
from tb.sim import check_stream, get_all, put_all, simulate

CONFIGS = {"b64": AcceleratorConfig(bus_width=64), "b128": AcceleratorConfig(bus_width=128)}


@pytest.mark.parametrize(("stall_in", "stall_out"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_blocks(name: str, stall_in: float, stall_out: float) -> None:
    config, rng = CONFIGS[name], random.Random(f"{name} {stall_in} {stall_out}")
    size, dut = config.beat_bytes, Transposer(config)
    sent, want, want_bad, blocks = [], [], [], 16
    for number in range(blocks):
        rows = rng.choice((size, rng.randint(1, size)))
        tail, last, stride = rng.choice((0, rng.randrange(size))), rng.random() < 0.4 or number == blocks - 1, size * number
        unpack = rng.random() < 0.4
        bad = {row for row in range(rows) if rng.random() < 0.5 / rows}
        block = np.zeros((size, size), np.uint8)
        block[:rows] = np.frombuffer(rng.randbytes(rows * size), np.uint8).reshape(rows, size)
        for row in range(rows):
            sent.append({"data": int.from_bytes(block[row].tobytes(), "little"), "addr": 1000 * number + row,
                         "stride": stride, "unpack": unpack, "tail": tail, "end": row == rows - 1,
                         "last": last and row == rows - 1, "bad": row in bad})
        want_bad += [bool(bad)] * size
        for column in range(size):
            want.append((int.from_bytes(block[:, column].tobytes(), "little"), 1000 * number + column * (stride << unpack),
                         stride, unpack, tail == 0 or column < tail, last and column == size - 1))
    got: list[Any] = []
    got_bad: list[bool] = []
    settled = []

    async def marks(ctx: Any) -> None:
        async for _, _, valid, ready, bad in ctx.tick().sample(dut.o.valid, dut.o.ready, dut.bad):
            got_bad.extend([bool(bad)] if valid and ready else [])

    async def idle(ctx: Any) -> None:
        while len(got) < len(want):
            settled.append(ctx.get(dut.busy))
            await ctx.tick()
        assert not ctx.get(dut.busy)

    cycles = simulate(dut, put_all(dut.i, sent, stall=stall_in, seed=1), get_all(dut.o, len(want), got, stall=stall_out, seed=2),
                      idle, background=[check_stream(dut.o), marks], seed=1)
    assert [(beat.data, beat.addr, beat.stride, bool(beat.unpack), bool(beat.write), bool(beat.last))
            for beat in got] == want
    assert got_bad == want_bad
    assert len(set(want_bad)) == 2
    assert any(settled)
    if not stall_in and not stall_out:
        assert cycles <= (blocks + 1) * size + 3


def test_a_command_that_arrives_slowly_is_not_slowed_down_further() -> None:
    config, rows = CONFIGS["b64"], 10 * 8
    dut, got, taken = Transposer(config), [], []
    sent = [{"data": row, "addr": 0, "stride": 0, "tail": 0, "end": row == rows - 1, "last": row == rows - 1}
            for row in range(rows)]

    async def watch(ctx: Any) -> None:
        cycle = 0
        async for _, _, valid, ready in ctx.tick().sample(dut.i.valid, dut.i.ready):
            cycle += 1
            taken.extend([cycle] if valid and ready else [])

    cycles = simulate(dut, put_all(dut.i, sent, stall=0.5, seed=1), get_all(dut.o, rows, got, seed=2), background=[watch], seed=1)
    rng, pauses = random.Random(1), 0               # as put_all draws them
    for _ in range(rows):
        while rng.random() < 0.5:
            pauses += 1
    assert pauses > rows // 2
    assert taken[-1] <= rows + pauses + 1
    assert cycles <= taken[-1] + 8 + 2
