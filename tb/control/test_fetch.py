"""Instruction fetch: every word right, latencies, reading ahead, errors where they matter and only there."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hw.control.fetch import InstructionFetch
from tb.sim import AxiMemory, simulate

BASE = 0x1F80


class Reader:
    """A memory with random instructions, and the sequencer's side of the port."""

    def __init__(self, *, bus_width: int = 128, lines: int = 8, latency: int = 8, stall: float = 0.0, seed: int = 0):
        protection = {64: "secded", 256: "parity"}.get(bus_width, "none")
        self.dut = InstructionFetch(bus_width=bus_width, lines=lines, protection=protection)
        self.memory = AxiMemory(1 << 15, bus_width, latency=latency, stall=stall, seed=seed)
        self.seed = seed

    def word(self, pc: int) -> int:
        addr = BASE + 8 * pc
        return int.from_bytes(self.memory.data[addr:addr + 8].tobytes(), "little")

    async def start(self, ctx: Any, length: int) -> None:
        dut = self.dut
        ctx.set(dut.program_addr, BASE)
        ctx.set(dut.program_length, length)
        ctx.set(dut.instruction.next_pc, 0)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.program_addr, 0)
        ctx.set(dut.program_length, 0)
        ctx.set(dut.enable, 1)

    async def drain(self, ctx: Any) -> None:
        """Forbid further lines and wait for those on their way."""
        ctx.set(self.dut.enable, 0)
        while ctx.get(self.dut.busy):
            await ctx.tick()

    def run(self, bench: Any) -> None:
        dut = self.dut
        simulate(dut, bench, background=[self.memory.read(dut.bus), self.memory.check_read(dut.bus)], seed=self.seed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("bus_width", "lines", "latency", "stall"), [
    (64, 4, 1, 0.0), (64, 8, 5, 0.4), (128, 4, 20, 0.5), (128, 32, 8, 0.0), (256, 8, 3, 0.3), (512, 16, 1, 0.6)])
def test_random_walk(bus_width: int, lines: int, latency: int, stall: float, seed: int) -> None:
    rng = random.Random(seed)
    reader = Reader(bus_width=bus_width, lines=lines, latency=latency, stall=stall, seed=seed)
    port, length = reader.dut.instruction, 400
    seen: Counter[str] = Counter()

    async def bench(ctx: Any) -> None:
        for _ in range(2):                                      # the second program finds nothing of the first
            reader.memory.data[:] = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, len(reader.memory.data))
            await reader.start(ctx, length)
            pc = waited = 0
            for _ in range(400):
                assert (ctx.get(port.pc), ctx.get(port.following)) == (pc, pc + 1)
                assert ctx.get(port.beyond) == (pc >= length)
                assert not ctx.get(port.fault)
                if hit := ctx.get(port.hit):
                    seen["hits"] += 1
                    word = ctx.get(port.word)
                    assert word.as_bits() == reader.word(pc)
                waited = 0 if hit or pc >= length else waited + 1
                seen["misses"] += waited == 1
                assert waited < 400
                if hit or pc >= length or rng.random() < 0.02:
                    way = rng.random()
                    if way < 0.85:
                        pc += 1
                    elif way < 0.95:
                        pc = max(0, pc - rng.randrange(40))
                    else:
                        pc = rng.randrange(length + 4)
                    ctx.set(port.next_pc, pc)
                await ctx.tick()
            await reader.drain(ctx)

    reader.run(bench)
    assert min(seen["hits"], seen["misses"]) > 10
    last = BASE + (length - 1) // 8 * 64
    assert all(beats == 512 // bus_width and BASE <= addr <= last and addr % 64 == 0 for addr, beats in reader.memory.reads)


async def wait_for_hit(ctx: Any, port: Any) -> int:
    cycles = 0
    while not ctx.get(port.hit):
        cycles += 1
        await ctx.tick()
    return cycles


@pytest.mark.parametrize(("bus_width", "latency"), [(64, 1), (128, 10), (512, 3)])
def test_latency_and_reading_ahead(bus_width: int, latency: int) -> None:
    """A miss takes ARVALID at 1, AR taken, the memory's latency, the burst, and two cycles; straight code then never waits."""
    reader = Reader(bus_width=bus_width, lines=32, latency=latency)
    dut, port = reader.dut, reader.dut.instruction
    beats = 512 // bus_width

    async def bench(ctx: Any) -> None:
        await reader.start(ctx, 8 * 20)

        async def line(pc: int) -> int:
            ctx.set(port.next_pc, pc)
            await ctx.tick()
            return await wait_for_hit(ctx, port)

        assert dut.ahead == 4
        assert await wait_for_hit(ctx, port) == latency + beats + 2
        await ctx.tick().repeat(5 * (latency + beats) + 10)
        assert [addr for addr, _ in reader.memory.reads] == [BASE + 64 * i for i in range(1 + dut.ahead)]
        assert [await line(8 * i) for i in range(1, 5)] == [0, 0, 0, 0]
        await ctx.tick().repeat(5 * (latency + beats) + 10)
        assert await line(8 * 15) == latency + beats + 2
        await reader.drain(ctx)

    reader.run(bench)


def test_lines_are_read_ahead_round_and_round_the_cache() -> None:
    reader = Reader(lines=4)
    port = reader.dut.instruction

    async def bench(ctx: Any) -> None:
        await reader.start(ctx, 8 * 14)
        for pc in range(0, 8 * 14, 8):
            ctx.set(port.next_pc, pc)
            await ctx.tick()
            assert ctx.get(port.hit) or pc == 0
            await ctx.tick().repeat(40)
        await reader.drain(ctx)

    reader.run(bench)
    assert reader.dut.ahead == 1
    assert len(reader.memory.reads) == 14


def test_no_line_beyond_the_program_is_read() -> None:
    reader = Reader(lines=32)

    async def bench(ctx: Any) -> None:
        await reader.start(ctx, 17)
        await ctx.tick().repeat(100)
        await reader.drain(ctx)

    reader.run(bench)
    assert [addr for addr, _ in reader.memory.reads] == [BASE, BASE + 64, BASE + 128]


@pytest.mark.parametrize("beat", range(4))
def test_error_shows_only_where_it_is_waited_for(beat: int) -> None:
    reader = Reader(lines=32)
    port = reader.dut.instruction
    reader.memory.faults[BASE + 64 * 2 + 16 * beat] = 2 + beat % 2

    async def settle(ctx: Any, pc: int) -> tuple[int, int, int]:
        ctx.set(port.next_pc, pc)
        await ctx.tick().repeat(200)
        return ctx.get(port.hit), ctx.get(port.fault), ctx.get(port.fault_addr)

    async def bench(ctx: Any) -> None:
        await reader.start(ctx, 100)
        assert await settle(ctx, 0) == (1, 0, BASE)
        reads = len(reader.memory.reads)
        assert await settle(ctx, 15) == (1, 0, BASE + 64)
        assert len(reader.memory.reads) - reads <= 2, "a failing line is not read again and again"
        assert await settle(ctx, 17) == (0, 1, BASE + 128)
        assert await settle(ctx, 18) == (0, 1, BASE + 128)
        assert await settle(ctx, 24) == (1, 0, BASE + 192)
        assert await settle(ctx, 16) == (0, 1, BASE + 128)
        reader.memory.faults.clear()
        await reader.drain(ctx)
        await reader.start(ctx, 100)
        assert await settle(ctx, 16) == (1, 0, BASE + 128)
        await reader.drain(ctx)

    reader.run(bench)
