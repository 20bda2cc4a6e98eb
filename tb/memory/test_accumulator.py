"""The accumulator: saturating read-modify-write in every cycle, and its second reader."""

import random
from collections import Counter
from typing import Any

import pytest

from hw.config import AcceleratorConfig
from hw.memory.accumulator import Accumulator
from tb.sim import simulate

CONFIGS = {
    "wider": AcceleratorConfig(accumulator_rows=16),
    "narrower": AcceleratorConfig(accumulator_rows=16, acc_width=16, os_depth=4096),                # psums of 28 bits
    "one-bank": AcceleratorConfig(accumulator_rows=16, accumulator_banks=1, rows=3, columns=5, vector_lanes=1, acc_width=20),
    "four-banks": AcceleratorConfig(accumulator_rows=64, accumulator_banks=4, rows=16, columns=1, vector_lanes=1),
    "parity": AcceleratorConfig(accumulator_rows=16, protection=(("accumulator", "parity"),)),
    "secded": AcceleratorConfig(accumulator_rows=16, acc_width=20, protection=(("accumulator", "secded"),)),
}


@pytest.mark.parametrize("busy", [0.5, 1.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_rows(name: str, busy: float) -> None:
    config, rng = CONFIGS[name], random.Random(f"{name} {busy}")
    dut = Accumulator(config)
    rows, columns, bank_rows = config.accumulator_rows, config.columns, config.accumulator_bank_rows
    high = (1 << (config.acc_width - 1)) - 1
    psum_high = (1 << (config.psum_width - 1)) - 1
    model = [[0] * columns for _ in range(rows)]
    seen: Counter[str] = Counter()

    def psum() -> int:
        return rng.choice((rng.randint(-psum_high - 1, psum_high), rng.randint(-9, 9), psum_high, -psum_high - 1))

    async def traffic(ctx: Any) -> None:
        # Two rows start near the ends, so that an accumulator much wider than a psum saturates too.
        for addr in range(2):
            for _ in range(max(1, high // psum_high)):
                await row(ctx, True, addr, 1, [psum_high if addr else -psum_high - 1] * columns, None)
        last = 0
        for _ in range(500):
            recent = [addr for addr in before if addr is not None]
            read = rng.choice((last, *recent, rng.randrange(rows))) if rng.random() < busy else None
            last = rng.choice((last, rng.randrange(rows), rng.randrange(2)))
            push = [psum_high if last else -psum_high - 1] * columns
            values = push if last < 2 else [psum() for _ in range(columns)]
            await row(ctx, rng.random() < busy, last, rng.random() < (0.95 if last < 2 else 0.7), values, read)
        for _ in range(dut.latency):
            await row(ctx, False, 0, 0, [0] * columns, None)

    expected: list[int] | None = None
    clipped: list[bool] = [False] * dut.latency         # what `saturated` will show, in the cycles to come
    coming: list[dict[int, list[int]]] = [{}] * (dut.latency - 1)   # rows as they were before writes that reads cannot see yet
    before: list[int | None] = [None, None]             # rows of the last two cycles

    async def row(ctx: Any, valid: bool, addr: int, accumulate: int, values: list[int], read: int | None) -> None:
        """Drive one cycle; check what the last one promised."""
        nonlocal expected, clipped, coming, before
        ctx.set(dut.write.valid, valid)
        ctx.set(dut.write.addr, addr)
        ctx.set(dut.write.accumulate, accumulate)
        ctx.set(dut.write.data, values)
        ctx.set(dut.read.valid, read is not None)
        ctx.set(dut.read.addr, read or 0)
        assert ctx.get(dut.saturated) == clipped[0]
        seen["saturated"] += clipped[0]
        if expected is not None:
            assert [ctx.get(dut.read.data[i]) for i in range(columns)] == expected
        expected = None
        if read is not None:
            refused = bool(valid and accumulate and addr // bank_rows == read // bank_rows)
            assert ctx.get(dut.read.ready) == (not refused)
            seen["refused" if refused else "read"] += 1
            seen["read beside overwrite"] += bool(valid and not accumulate and addr // bank_rows == read // bank_rows)
            seen["read of the row before"] += not refused and read == before[0]
            seen["read of the row two before"] += not refused and read == before[1] != before[0]
            hidden = next((rows[read] for rows in coming if read in rows), None)
            expected = None if refused else list(model[read] if hidden is None else hidden)
        seen["same row again"] += bool(valid and accumulate and addr == before[0])
        seen["same row after another"] += bool(valid and accumulate and addr == before[1] != before[0])
        before = [addr if valid else None, before[0]]
        coming = [*coming[1:], {addr: list(model[addr])} if valid else {}]
        clipped = [*clipped[1:], False]
        if valid:
            sums = [value + (old if accumulate else 0) for value, old in zip(values, model[addr], strict=True)]
            model[addr] = [min(max(total, -high - 1), high) for total in sums]
            clipped[-1] = model[addr] != sums
        await ctx.tick()

    simulate(dut, traffic, seed=0)
    for stimulus in ("saturated", "refused", "read", "read beside overwrite", "read of the row before",
                     "read of the row two before", "same row again", "same row after another"):
        assert seen[stimulus] > 3, stimulus
