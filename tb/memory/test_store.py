"""The store unit against a plain description of what a store does, with an AXI memory that checks the rules of the bus."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.memory.store import StoreUnit
from tb.memory.blocks import Bytes, random_block, store_block
from tb.sim import AxiMemory, put_all, simulate

DRAM_BYTES = 32768
CONFIGS = {
    "b64": AcceleratorConfig(bus_width=64, scratchpad_bytes=8192, burst_beats=4),
    "b128": AcceleratorConfig(bus_width=128, scratchpad_bytes=8192),
    "b128-wide-line": AcceleratorConfig(bus_width=128, rows=32, scratchpad_bytes=8192, burst_beats=5),
    "b512": AcceleratorConfig(bus_width=512, scratchpad_bytes=32768, burst_beats=256),
}


class Bench:
    """A store unit, a memory behind it, and a scratchpad that it reads."""

    def __init__(self, config: AcceleratorConfig, *, stall: float, seed: int, latency: int = 8):
        self.config, self.stall, self.seed = config, stall, seed
        self.dut = StoreUnit(config)
        self.memory = AxiMemory(DRAM_BYTES, config.bus_width, latency=latency, stall=stall, seed=seed,
                                burst_beats=config.burst_beats)
        self.scratchpad: Bytes = np.random.default_rng(seed + 1).integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)
        self.accepted: list[int] = []               # cycles
        self.done: list[int] = []
        self.beats: list[int] = []
        self.bytes_written = 0
        self.refused = 0

    async def scratchpad_side(self, ctx: Any) -> None:
        """Give the lines asked for, for one cycle each, and note the cycles of events."""
        rng, port, line = random.Random(self.seed), self.dut.read, self.config.line_bytes
        unit, ready, cycle = self.dut.unit, True, 0
        ctx.set(port.ready, ready)
        sampled = (port.valid, port.addr, unit.done, self.dut.beat, self.dut.bytes_written, unit.command.valid, unit.command.ready)
        async for _, _, valid, addr, done, beat, count, offered, taken in ctx.tick().sample(*sampled):
            granted = valid and ready
            self.refused += valid and not ready
            value = self.scratchpad[addr * line:(addr + 1) * line].tobytes() if granted else rng.randbytes(line)
            ctx.set(port.data, int.from_bytes(value, "little"))
            if done:
                self.done.append(cycle)
            if beat:
                self.beats.append(cycle)
            self.bytes_written += count
            if offered and taken:
                self.accepted.append(cycle)
            cycle += 1
            ready = rng.random() >= self.stall
            ctx.set(port.ready, ready)

    def run(self, blocks: list[dict[str, int]], *testbenches: Any) -> None:
        """Send the blocks, wait until all are done and the unit is idle (or what `testbenches` want)."""
        async def finish(ctx: Any) -> None:
            while len(self.done) < len(blocks):
                assert not ctx.get(self.dut.unit.error)
                await ctx.tick()
            await ctx.tick()
            assert not ctx.get(self.dut.unit.busy)

        blocks = [{k: v for k, v in block.items() if k != "transpose"} for block in blocks]
        simulate(self.dut, put_all(self.dut.unit.command, blocks, stall=self.stall / 2, seed=self.seed),
                 *(testbenches or (finish,)), seed=self.seed, deadline=40_000,
                 background=(self.memory.write(self.dut.bus), *self.memory.check_write(self.dut.bus), self.scratchpad_side))


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_blocks(name: str, stall: float) -> None:
    config, seed = CONFIGS[name], 7
    rng = random.Random(f"{name} {stall}")
    bench = Bench(config, stall=stall, seed=seed)
    blocks = [random_block(rng, config, DRAM_BYTES) for _ in range(24)]
    expected = bench.memory.data.copy()
    for block in blocks:
        store_block(block, expected, bench.scratchpad)
    bench.run(blocks)
    wrong = np.flatnonzero(bench.memory.data != expected)
    assert not len(wrong), f"first wrong bytes {wrong[:8]}"
    assert len(bench.beats) == sum(b["rows"] * -(-b["row_bytes"] // config.beat_bytes) for b in blocks)
    assert bench.bytes_written == bench.memory.bytes_written == sum(b["rows"] * b["row_bytes"] for b in blocks)
    if stall:
        assert bench.refused and bench.memory.stalls
