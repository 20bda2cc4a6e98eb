"""The accumulator whose columns have rows of their own: each as a saturating memory, its reader beside it."""

import random
from typing import Any

import pytest

from hw.config import AcceleratorConfig
from hw.memory.lane_accumulator import LaneAccumulator
from tb.sim import simulate

_SPLIT: dict[str, Any] = {"engine": "bitvert", "dataflows": ("ws",), "rows": 2, "columns": 4, "vector_lanes": 4, "bus_width": 64,
                          "weight_formats": ("bbs-shift-g32-1of4",), "os_depth": 64, "accumulator_rows": 16}
CONFIGS = {
    "plain": AcceleratorConfig(**_SPLIT, acc_width=23),
    "one-bank": AcceleratorConfig(**_SPLIT, accumulator_banks=1),
    "secded": AcceleratorConfig(**_SPLIT, acc_width=23, protection=(("accumulator", "secded"),)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_random_rows(name: str) -> None:
    """Rows that collide between lanes, with themselves, and with the reader, in every cycle or now and then."""
    config, rng = CONFIGS[name], random.Random(name)
    dut = LaneAccumulator(config)
    rows, columns, bank_rows = config.accumulator_rows, config.columns, config.accumulator_bank_rows
    high, psum_high = (1 << (config.acc_width - 1)) - 1, (1 << (config.psum_width - 1)) - 1
    model = [[0] * columns for _ in range(rows)]
    seen = {"refused": 0, "read": 0, "saturated": 0}

    async def bench(ctx: Any) -> None:
        for addr in range(rows):                                        # nothing is known of what a memory holds at first
            ctx.set(dut.write.valid, 1)
            ctx.set(dut.write.accumulate, 0)
            ctx.set(dut.write.addr, addr)
            await ctx.tick()
        shows: list[int] | None = None
        clipped = [False, False]
        coming: list[list[list[int]]] = [[row[:] for row in model] for _ in range(2)]       # the memory as reads see it
        for _ in range(700):
            valid, accumulate = rng.random() < 0.8, rng.random() < 0.9
            addr, offsets = rng.randrange(rows), [rng.choice((0, 0, 1, rows - 1, rng.randrange(rows))) for _ in range(columns)]
            values = [rng.choice((psum_high, psum_high, -psum_high - 1, rng.randint(-9, 9))) for _ in range(columns)]
            read = rng.randrange(rows) if rng.random() < 0.7 else None
            ctx.set(dut.write.valid, valid)
            ctx.set(dut.write.accumulate, accumulate)
            ctx.set(dut.write.addr, addr)
            ctx.set(dut.write.offset, offsets)
            ctx.set(dut.write.data, values)
            ctx.set(dut.read.valid, read is not None)
            ctx.set(dut.read.addr, read or 0)
            assert ctx.get(dut.saturated) == clipped.pop(0)
            if shows is not None:
                assert [ctx.get(dut.read.data[c]) for c in range(columns)] == shows
            shows = None
            lanes = [(addr + offset) % rows for offset in offsets]
            if read is not None:
                refused = valid and accumulate and any(lane // bank_rows == read // bank_rows for lane in lanes)
                assert ctx.get(dut.read.ready) == (not refused)
                seen["refused" if refused else "read"] += 1
                if not refused:
                    shows = coming[0][read][:]
            over = False
            if valid:
                for c, (lane, value) in enumerate(zip(lanes, values, strict=True)):
                    total = value + accumulate * model[lane][c]
                    model[lane][c] = max(-high - 1, min(high, total))
                    over |= model[lane][c] != total
            seen["saturated"] += over
            clipped.append(over)
            coming = [coming[1], [row[:] for row in model]]
            await ctx.tick()

    simulate(dut, bench)
    assert min(seen["refused"], seen["read"]) > 20
    assert name == "one-bank" or seen["saturated"] > 20
