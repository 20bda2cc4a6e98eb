"""The load unit against a plain description of what a load does, with an AXI memory that checks the rules of the bus."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.memory.load import LoadUnit
from tb.memory.blocks import Bytes, load_block, random_block
from tb.sim import AxiMemory, put_all, simulate

DRAM_BYTES = 32768
CONFIGS = {
    "b64": AcceleratorConfig(bus_width=64, scratchpad_bytes=8192, burst_beats=4, outstanding_reads=3),
    "b128": AcceleratorConfig(bus_width=128, scratchpad_bytes=8192, outstanding_reads=16),
    "b128-wide-line": AcceleratorConfig(bus_width=128, rows=32, scratchpad_bytes=8192, burst_beats=5, outstanding_reads=1),
    "b512": AcceleratorConfig(bus_width=512, scratchpad_bytes=32768, burst_beats=256, outstanding_reads=8),
}


class Bench:
    """A load unit, a memory behind it, and a scratchpad that takes its writes."""

    def __init__(self, config: AcceleratorConfig, *, stall: float, seed: int, latency: int = 8):
        self.config, self.stall, self.seed = config, stall, seed
        self.dut = LoadUnit(config)
        self.memory = AxiMemory(DRAM_BYTES, config.bus_width, latency=latency, stall=stall, seed=seed,
                                burst_beats=config.burst_beats)
        self.scratchpad: Bytes = np.random.default_rng(seed + 1).integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)
        self.accepted: list[int] = []               # cycles
        self.done: list[int] = []
        self.beats: list[int] = []
        self.stable: list[Bytes] = []               # the scratchpad at each done
        self.refused = 0

    async def scratchpad_side(self, ctx: Any) -> None:
        """Take the writes, and note the cycles of events."""
        rng, port, line = random.Random(self.seed), self.dut.write, self.config.line_bytes
        unit, ready, cycle = self.dut.unit, True, 0
        ctx.set(port.ready, ready)
        sampled = (port.valid, port.addr, port.data, port.mask, unit.done, self.dut.beat, unit.command.valid, unit.command.ready)
        async for _, _, valid, addr, data, mask, done, beat, offered, taken in ctx.tick().sample(*sampled):
            if valid and ready:
                for lane, byte in enumerate(data.to_bytes(line, "little")):
                    if mask >> lane & 1:
                        self.scratchpad[addr * line + lane] = byte
            self.refused += valid and not ready
            if done:
                self.done.append(cycle)
                self.stable.append(self.scratchpad.copy())
            if beat:
                self.beats.append(cycle)
            if offered and taken:
                self.accepted.append(cycle)
            cycle += 1
            ready = rng.random() >= self.stall
            ctx.set(port.ready, ready)

    def run(self, blocks: list[dict[str, int]], *testbenches: Any) -> None:
        """Send the blocks, wait until the unit is idle (or what `testbenches` want)."""
        async def idle(ctx: Any) -> None:
            await ctx.tick().until(self.dut.unit.error | (self.dut.unit.done & (len(self.done) == len(blocks) - 1)))

        async def finish(ctx: Any) -> None:
            while len(self.done) < len(blocks):
                assert not ctx.get(self.dut.unit.error)
                await ctx.tick()
            await ctx.tick()
            assert not ctx.get(self.dut.unit.busy)

        simulate(self.dut, put_all(self.dut.unit.command, blocks, stall=self.stall / 2, seed=self.seed),
                 *(testbenches or (finish,)), seed=self.seed, deadline=40_000,
                 background=(self.memory.read(self.dut.bus), self.memory.check_read(self.dut.bus), self.scratchpad_side))


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_blocks(name: str, stall: float) -> None:
    config, seed = CONFIGS[name], 7
    rng = random.Random(f"{name} {stall}")
    bench = Bench(config, stall=stall, seed=seed)
    most = 6 if config.bus_width == 512 else 40
    blocks = [random_block(rng, config, DRAM_BYTES, transpose=rng.random() < 0.4, most_beats=most) for _ in range(24)]
    expected = bench.scratchpad.copy()
    states = []
    for block in blocks:
        load_block(block, bench.memory.data, expected, config.beat_bytes)
        states.append(expected.copy())
    bench.run(blocks)
    for index, (got, want) in enumerate(zip(bench.stable, states, strict=True)):
        wrong = np.flatnonzero(got != want)
        assert not len(wrong), f"after block {index} {blocks[index]}: first wrong bytes {wrong[:8]}"
    assert len(bench.beats) == sum(b["rows"] * -(-b["row_bytes"] // config.beat_bytes) for b in blocks)
    assert bench.memory.most_in_flight == config.outstanding_reads
    kinds = Counter((b["transpose"], b["row_bytes"] % config.beat_bytes != 0) for b in blocks)
    assert len(kinds) == 4
    if stall:
        assert bench.refused and bench.memory.stalls
