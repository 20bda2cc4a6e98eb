"""Benches around the load and store units: commands in, an AXI memory on one side, a scratchpad on the other."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth import *

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.memory.load import LoadUnit
from hw.memory.store import StoreUnit
from tb.memory.blocks import Block, Bytes
from tb.sim import AxiMemory, Bench, put_one, simulate

__all__ = ["BEAT", "CONFIGS", "DRAM_BYTES", "SCRATCHPAD", "WRONG_BLOCKS", "DmaBench", "LoadBench", "StoreBench"]

DRAM_BYTES = 32768
CONFIGS = {
    "b64": AcceleratorConfig(bus_width=64, scratchpad_bytes=8192, burst_beats=5, outstanding_reads=3),
    "b128": AcceleratorConfig(bus_width=128, scratchpad_bytes=8192, outstanding_reads=16),
    "b128-wide-line": AcceleratorConfig(bus_width=128, rows=32, scratchpad_bytes=8192, burst_beats=1, outstanding_reads=1),
    "b512": AcceleratorConfig(bus_width=512, scratchpad_bytes=32768, burst_beats=256, outstanding_reads=8),
}

BEAT = CONFIGS["b128"].beat_bytes
SCRATCHPAD = CONFIGS["b128"].scratchpad_bytes
WRONG_BLOCKS = {
    "no-rows": ({"rows": 0}, ErrorCause.BAD_SIZE, 0),
    "no-bytes": ({"row_bytes": 0}, ErrorCause.BAD_SIZE, 0),
    "dram-addr": ({"dram_addr": 1}, ErrorCause.MISALIGNED, 1),
    "dram-stride": ({"dram_stride": BEAT + 8}, ErrorCause.MISALIGNED, BEAT + 8),
    "addr": ({"addr": 24}, ErrorCause.MISALIGNED, 24),
    "stride": ({"stride": 12}, ErrorCause.MISALIGNED, 12),
    "start-outside": ({"addr": SCRATCHPAD + 64}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD + 64),
    "end-outside": ({"addr": SCRATCHPAD - 2 * BEAT}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD),
    "row-outside": ({"stride": SCRATCHPAD - 512}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD),
    "far-outside": ({"stride": (1 << 24) - BEAT, "addr": 512}, ErrorCause.SCRATCHPAD_RANGE, (1 << 24) - BEAT + 512),
    "row-wraps": ({"dram_addr": (1 << 32) - BEAT}, ErrorCause.BAD_SIZE, 0),
    "stride-wraps": ({"dram_stride": (1 << 32) - BEAT}, ErrorCause.BAD_SIZE, 4096 - 2 * BEAT),
}
"""Name → changes that make a block of configuration "b128" wrong for either unit, the cause, the address to report."""


class DmaBench(ABC):
    """What both units have in common.

    Attributes
    ----------
    accepted, done, beats : list of int
        Cycles of the events.
    refused : int
        Scratchpad requests that had to wait.
    """

    def __init__(self, dut: Any, port: Any, *, stall: float, seed: int, latency: int):
        self.dut, self.stall, self.seed = dut, stall, seed
        self.granting = Signal(init=1)
        self.top = Module()
        self.top.submodules.dut = dut
        self.top.d.comb += port.ready.eq(port.valid & self.granting)      # as the scratchpad has it
        self.config: AcceleratorConfig = dut.config
        self.memory = AxiMemory(DRAM_BYTES, self.config.bus_width, latency=latency, stall=stall, seed=seed,
                                burst_beats=self.config.burst_beats)
        self.rng = random.Random(seed)
        self.scratchpad: Bytes = np.random.default_rng(seed + 1).integers(0, 256, self.config.scratchpad_bytes, dtype=np.uint8)
        self.accepted: list[int] = []
        self.done: list[int] = []
        self.beats: list[int] = []
        self.refused = 0

    async def watch(self, ctx: Any) -> None:
        """Note the cycles of events."""
        unit, cycle = self.dut.unit, 0
        sampled = (unit.done, unit.error, self.dut.beat, unit.command.valid, unit.command.ready)
        async for _, _, done, error, beat, offered, taken in ctx.tick().sample(*sampled):
            assert not (done and error)
            self.done += [cycle] if done else []
            self.beats += [cycle] if beat else []
            self.accepted += [cycle] if offered and taken else []
            cycle += 1

    async def send(self, ctx: Any, blocks: Sequence[Block]) -> None:
        """Hand over the blocks, with random pauses when stalling."""
        for block in blocks:
            while self.rng.random() < self.stall / 2:
                await ctx.tick()
            await put_one(ctx, self.dut.unit.command, self.command(block))

    async def settle(self, ctx: Any, bound: int = 10_000) -> int:
        """Wait until the unit is idle; return the cycles that took."""
        for waited in range(bound):
            if not ctx.get(self.dut.unit.busy):
                return waited
            await ctx.tick()
        raise AssertionError(f"still busy after {bound} cycles")

    async def abort(self, ctx: Any) -> None:
        """Abort, wait until idle, and let go; see that no burst is issued meanwhile."""
        ctx.set(self.dut.unit.abort, 1)
        issued = self.issued(ctx)
        await ctx.tick()
        await self.settle(ctx)
        assert self.issued(ctx) == issued
        assert not ctx.get(self.dut.unit.error)
        ctx.set(self.dut.unit.abort, 0)

    @abstractmethod
    def issued(self, ctx: Any) -> int:
        """Return how many bursts have been issued, one that is up and not taken included."""

    def command(self, block: Block) -> Block:
        """Return the fields of the unit's descriptor."""
        return block

    @abstractmethod
    def background(self) -> tuple[Bench, ...]:
        """Return the models and checkers of this unit."""

    def run(self, bench: Bench) -> None:
        """Simulate until `bench` has returned."""
        simulate(self.top, bench, background=(*self.background(), self.watch), seed=self.seed, deadline=60_000)

    def run_blocks(self, blocks: Sequence[Block]) -> None:
        """Send the blocks, wait until the unit is idle, and see that all are done."""
        async def bench(ctx: Any) -> None:
            await self.send(ctx, blocks)
            await self.settle(ctx)
            assert not ctx.get(self.dut.unit.error)

        self.run(bench)
        assert len(self.done) == len(blocks) > 0


class LoadBench(DmaBench):
    """A load unit; `states` holds the scratchpad as it was when each `done` came."""

    def __init__(self, config: AcceleratorConfig, *, stall: float = 0.0, seed: int = 0, latency: int = 8):
        dut = LoadUnit(config)
        super().__init__(dut, dut.write, stall=stall, seed=seed, latency=latency)
        self.states: list[Bytes] = []

    async def scratchpad_side(self, ctx: Any) -> None:
        """Take the writes."""
        rng, port, line = random.Random(self.seed), self.dut.write, self.config.line_bytes
        sampled = (port.valid, port.ready, port.addr, port.data, port.mask, self.dut.unit.done)
        async for _, _, valid, ready, addr, data, mask, done in ctx.tick().sample(*sampled):
            if done:                    # of a write one cycle before
                self.states.append(self.scratchpad.copy())
            if ready:
                value = np.frombuffer(data.to_bytes(line, "little"), np.uint8)
                enabled = np.unpackbits(np.frombuffer(mask.to_bytes(-(-line // 8), "little"), np.uint8), bitorder="little")
                np.copyto(self.scratchpad[addr * line:(addr + 1) * line], value, where=enabled[:line].astype(bool))
            self.refused += valid and not ready
            ctx.set(self.granting, rng.random() >= self.stall)

    def issued(self, ctx: Any) -> int:
        return len(self.memory.reads) + ctx.get(self.dut.bus.arvalid)

    def background(self) -> tuple[Bench, ...]:
        bus = self.dut.bus
        return self.memory.read(bus), self.memory.check_read(bus), self.scratchpad_side


class StoreBench(DmaBench):
    """A store unit; `bytes_written` is what it says of itself."""

    def __init__(self, config: AcceleratorConfig, *, stall: float = 0.0, seed: int = 0, latency: int = 8):
        dut = StoreUnit(config)
        super().__init__(dut, dut.read, stall=stall, seed=seed, latency=latency)
        self.bytes_written = 0

    def command(self, block: Block) -> Block:
        return {name: value for name, value in block.items() if name not in ("transpose", "unpack")}

    async def scratchpad_side(self, ctx: Any) -> None:
        """Give each line asked for, for one cycle."""
        rng, port, line = random.Random(self.seed), self.dut.read, self.config.line_bytes
        sampled = (port.valid, port.ready, port.addr, self.dut.bytes_written)
        async for _, _, valid, ready, addr, count in ctx.tick().sample(*sampled):
            self.refused += valid and not ready
            self.bytes_written += count
            value = self.scratchpad[addr * line:(addr + 1) * line].tobytes() if ready else rng.randbytes(line)
            ctx.set(port.data, int.from_bytes(value, "little"))
            ctx.set(self.granting, rng.random() >= self.stall)

    def issued(self, ctx: Any) -> int:
        return len(self.memory.writes) + ctx.get(self.dut.bus.awvalid)

    def background(self) -> tuple[Bench, ...]:
        bus = self.dut.bus
        return self.memory.write(bus), *self.memory.check_write(bus), self.scratchpad_side
