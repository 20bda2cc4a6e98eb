"""The store unit against a plain description of what a store does, with an AXI memory that checks the rules of the bus."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.timing import store_cycles
from tb.memory.blocks import Block, beats_of, random_block, store_block
from tb.memory.dma import BEAT, CONFIGS, DRAM_BYTES, WRONG_BLOCKS, StoreBench

GOOD: Block = {"dram_addr": 4096 - BEAT, "dram_stride": 4 * BEAT, "rows": 3, "row_bytes": 3 * BEAT - 5, "addr": 512,
               "stride": 4 * BEAT}
MANY: Block = {**GOOD, "dram_addr": 0, "rows": 100, "stride": 0}        # more bursts than can be in flight


def some_blocks(name: str, seed: object, count: int) -> list[Block]:
    """Return random blocks."""
    rng = random.Random(f"{name} {seed}")
    return [random_block(rng, CONFIGS[name], DRAM_BYTES) for _ in range(count)]


def check_dram(bench: StoreBench, blocks: list[Block], expected: Any) -> None:
    """Compare DRAM with what the blocks make of `expected`."""
    for block in blocks:
        store_block(block, expected, bench.scratchpad)
    wrong = np.flatnonzero(bench.memory.data != expected)
    assert not len(wrong), f"first wrong bytes {wrong[:8]}"


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_blocks(name: str, stall: float) -> None:
    blocks = some_blocks(name, stall, 24)
    bench = StoreBench(CONFIGS[name], stall=stall, seed=7)
    before = bench.memory.data.copy()
    bench.run_blocks(blocks)
    check_dram(bench, blocks, before)
    assert len(bench.beats) == sum(beats_of(block, bench.config.beat_bytes) for block in blocks)
    assert bench.bytes_written == bench.memory.bytes_written == sum(block["rows"] * block["row_bytes"] for block in blocks)
    assert any(block["row_bytes"] % bench.config.beat_bytes for block in blocks)
    if stall:
        assert bench.refused
        assert bench.memory.stalls


@pytest.mark.parametrize("latency", [1, 20])
@pytest.mark.parametrize("name", ["b128", "b512"])
def test_cycles_of_one_command(name: str, latency: int) -> None:
    config = CONFIGS[name]
    for rows, beats in ((1, 1), (1, 9), (9, 1), (4, 5)):
        block = {**GOOD, "rows": rows, "row_bytes": beats * config.beat_bytes - 1, "addr": 0, "stride": 0, "dram_addr": 0,
                 "dram_stride": 512}
        bench = StoreBench(config, latency=latency)
        bench.run_blocks([block])
        assert bench.done[0] - bench.accepted[0] + 1 == store_cycles(
            config, rows=rows, row_bytes=block["row_bytes"], memory_latency=latency)


def test_commands_follow_each_other_without_a_gap() -> None:
    shapes = [(1, 1), (7, 1), (1, 30), (5, 3), (1, 1), (2, 17)]
    blocks = [{**GOOD, "rows": rows, "row_bytes": beats * BEAT, "addr": 0, "dram_addr": 0} for rows, beats in shapes]
    bench = StoreBench(CONFIGS["b128"], latency=20)
    bench.run_blocks(blocks)
    assert bench.beats == list(range(bench.beats[0], bench.beats[0] + sum(beats_of(block, BEAT) for block in blocks)))


WRONG = {
    **WRONG_BLOCKS,
    "bus": ({"dram_addr": 16384}, ErrorCause.BUS_WRITE, 16384),
}


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("case", WRONG)
def test_error_stops_after_the_older_commands(case: str, stall: float) -> None:
    changes, cause, addr = WRONG[case]
    bench = StoreBench(CONFIGS["b128"], stall=stall, seed=3, latency=12)
    bench.memory.faults[16384 + BEAT] = 2
    older, again = [GOOD, {**GOOD, "dram_addr": 8192}], [GOOD, {**GOOD, "addr": 2048}]
    unit, state = bench.dut.unit, bench.memory.data.copy()

    async def commands(ctx: Any) -> None:
        await bench.send(ctx, [*older, {**GOOD, **changes}])
        ctx.set(unit.command.payload, MANY)
        ctx.set(unit.command.valid, 1)
        while not ctx.get(unit.error):
            await ctx.tick()
        ctx.set(unit.command.valid, 0)
        assert len(bench.done) == len(older)
        assert (ctx.get(unit.report.cause), ctx.get(unit.report.addr)) == (cause, addr)
        issued = bench.issued(ctx)
        await bench.settle(ctx)
        assert bench.issued(ctx) == issued
        assert ctx.get(unit.error)
        if cause == ErrorCause.MISALIGNED or case in ("no-rows", "no-bytes", "start-outside"):
            check_dram(bench, older, state)                     # nothing of the bad command was written
        await bench.abort(ctx)
        state[:] = bench.memory.data
        await bench.send(ctx, again)
        await bench.settle(ctx)
        check_dram(bench, again, state)

    bench.run(commands)
    assert len(bench.done) == len(older) + len(again)


def test_far_end_of_the_largest_scratchpad() -> None:
    largest = 1 << 24
    bench = StoreBench(AcceleratorConfig(bus_width=128, scratchpad_bytes=largest), seed=1)
    unit = bench.dut.unit
    block = {**GOOD, "dram_addr": 0, "rows": 2, "row_bytes": 8 * BEAT, "addr": largest - 8 * BEAT, "stride": largest - BEAT}

    async def commands(ctx: Any) -> None:
        await bench.send(ctx, [block])
        while not ctx.get(unit.error):
            await ctx.tick()
        assert ctx.get(unit.report.addr) == 2 * largest - 9 * BEAT
        await bench.settle(ctx)

    bench.run(commands)
    assert bench.bytes_written == block["row_bytes"]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", ["b64", "b128"])
def test_abort_at_any_time(name: str, stall: float) -> None:
    rng = random.Random(f"{name} {stall}")
    bench = StoreBench(CONFIGS[name], stall=stall, seed=5)
    bus, unit = bench.dut.bus, bench.dut.unit
    seen: Counter[str] = Counter()

    async def commands(ctx: Any) -> None:
        for turn in range(30):
            ctx.set(unit.command.payload, bench.command(some_blocks(name, turn, 1)[0]))
            ctx.set(unit.command.valid, 1)
            await ctx.tick().repeat(rng.randint(1, 60))
            ctx.set(unit.command.valid, rng.random() < 0.5)     # commands offered during the abort are not taken
            seen["address up"] += ctx.get(bus.awvalid) and not ctx.get(bus.awready)
            seen["in flight"] += ctx.get(unit.busy)
            taken, written = len(bench.accepted), bench.memory.bytes_written
            await bench.abort(ctx)
            assert len(bench.accepted) <= taken + 1
            # Only what had been read by then is written: the beats ahead, and the one on its way.
            assert bench.memory.bytes_written <= written + 6 * bench.config.beat_bytes
            ctx.set(unit.command.valid, 0)
            await bench.settle(ctx)
            if turn % 10 == 0:
                blocks, state = some_blocks(name, -turn, 2), bench.memory.data.copy()
                await bench.send(ctx, blocks)
                await bench.settle(ctx)
                check_dram(bench, blocks, state)

    bench.run(commands)
    assert seen["in flight"] > 15
    assert seen["address up"] or not stall
