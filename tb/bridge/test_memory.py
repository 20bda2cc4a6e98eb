# amaranth: UnusedElaboratable=no
"""The AXI memory under random bursts in both directions, with a host that reads and writes bytes meanwhile."""

import random
import re

import numpy as np
import pytest

from hw.bridge.memory import AxiMemory
from hw.errors import ConfigError
from tb.sim import check_stable, simulate

SIZE, WIDTH = 512, 64
BEAT = WIDTH // 8
AXI_HALF, HOST_HALF = range(0, SIZE // 2), range(SIZE // 2, SIZE)       # so that the order between the two does not matter


class Bench:
    """A master, a host and what the memory must hold."""

    def __init__(self, *, stall=0.0, seed=0):
        self.dut = AxiMemory(size=SIZE, bus_width=WIDTH)
        self.rng, self.stall, self.seed = random.Random(seed), stall, seed
        self.data = np.zeros(SIZE, np.uint8)
        self.cycle = 0

    def go(self):
        return self.rng.random() >= self.stall

    async def pause(self, ctx):
        while not self.go():
            await ctx.tick()

    async def write(self, ctx, addr, beats, strobes):
        """Write a burst of (value, strobe) and return its response."""
        bus = self.dut.write
        for name, value in (("awaddr", addr), ("awlen", len(beats) - 1), ("awid", addr // 8 & 1), ("awvalid", 1)):
            ctx.set(getattr(bus, name), value)
        await ctx.tick().until(bus.awready)
        ctx.set(bus.awvalid, 0)
        for i, (value, strobe) in enumerate(zip(beats, strobes, strict=True)):
            await self.pause(ctx)
            for name, part in (("wdata", value), ("wstrb", strobe), ("wlast", i == len(beats) - 1), ("wvalid", 1)):
                ctx.set(getattr(bus, name), part)
            await ctx.tick().until(bus.wready)
            ctx.set(bus.wvalid, 0)
        await self.pause(ctx)
        ctx.set(bus.bready, 1)
        response, tag = await ctx.tick().sample(bus.bresp, bus.bid).until(bus.bvalid)
        ctx.set(bus.bready, 0)
        assert tag == addr // 8 & 1
        return response

    async def read(self, ctx, addr, beats):
        """Read a burst; return [(value, response)] with `last` checked."""
        bus = self.dut.read
        for name, value in (("araddr", addr), ("arlen", beats - 1), ("arid", beats & 1), ("arvalid", 1)):
            ctx.set(getattr(bus, name), value)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        got = []
        while len(got) < beats:
            ready = self.go()
            ctx.set(bus.rready, ready)
            _, _, valid, value, response, last, tag = await ctx.tick().sample(
                bus.rvalid, bus.rdata, bus.rresp, bus.rlast, bus.rid)
            if ready and valid:
                got.append((value, response))
                assert last == (len(got) == beats)
                assert tag == beats & 1
        ctx.set(bus.rready, 0)
        return got

    async def host(self, ctx, addr, value=None):
        """Write a byte, or read and return one."""
        port = self.dut.host
        for name, part in (("addr", addr), ("write", value is not None), ("write_data", value or 0), ("valid", 1)):
            ctx.set(getattr(port, name), part)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)
        return ctx.get(port.read_data)

    def beat(self, addr):
        return int.from_bytes(self.data[addr:addr + BEAT].tobytes(), "little")


@pytest.mark.parametrize(("stall", "seed"), [(0.0, 0), (0.4, 1)])
def test_random_bursts_and_bytes(stall, seed):
    bench = Bench(stall=stall, seed=seed)
    rng, done = random.Random(seed + 10), []

    async def master(ctx):
        for _ in range(50):
            beats = rng.randrange(1, 9)
            addr = rng.randrange(0, len(AXI_HALF) - beats * BEAT + 1, BEAT)
            values = [rng.randrange(1 << WIDTH) for _ in range(beats)]
            strobes = [rng.choice([0xFF, rng.randrange(256)]) for _ in range(beats)]
            assert await bench.write(ctx, addr, values, strobes) == 0
            for i, (value, strobe) in enumerate(zip(values, strobes, strict=True)):
                for lane in range(BEAT):
                    if strobe >> lane & 1:
                        bench.data[addr + i * BEAT + lane] = value >> 8 * lane & 255
            beats = rng.randrange(1, 9)
            addr = rng.randrange(0, len(AXI_HALF) - beats * BEAT + 1, BEAT)
            assert await bench.read(ctx, addr, beats) == [(bench.beat(addr + i * BEAT), 0) for i in range(beats)]
        done.append("master")

    async def host(ctx):
        while not done:
            for addr in rng.sample(HOST_HALF, 4):
                value = rng.randrange(256)
                await bench.host(ctx, addr, value)
                bench.data[addr] = value
            addr = rng.choice(HOST_HALF)
            assert await bench.host(ctx, addr) == bench.data[addr]
            await bench.pause(ctx)
        for addr in range(SIZE):
            assert await bench.host(ctx, addr) == bench.data[addr]

    bus = bench.dut.read
    simulate(bench.dut, master, host, seed=seed, background=[
        check_stable(bus.rvalid, bus.rready, bus.rdata, bus.rresp, bus.rlast, name="R"),
        check_stable(bench.dut.write.bvalid, bench.dut.write.bready, bench.dut.write.bresp, name="B")])


def test_a_burst_that_leaves_the_memory_fails_where_it_does():
    bench = Bench()

    async def master(ctx):
        assert await bench.write(ctx, SIZE - BEAT, [1, 2], [0xFF, 0xFF]) == 3
        first, second = await bench.read(ctx, SIZE - BEAT, 2)
        assert first == (1, 0)
        assert second[1] == 3
        assert await bench.read(ctx, 0, 1) == [(0, 0)]                  # the beat outside did not wrap around
        assert await bench.write(ctx, 0, [5], [0xFF]) == 0
        (beyond,) = await bench.read(ctx, 1 << 31, 1)
        assert beyond[1] == 3

    simulate(bench.dut, master)


def test_beats_come_one_a_cycle_after_the_latency():
    bench = Bench()
    bus, beats, cycles = bench.dut.read, 8, []

    async def master(ctx):
        ctx.set(bus.rready, 1)
        ctx.set(bus.arlen, beats - 1)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        for cycle in range(1, 16):
            _, _, valid = await ctx.tick().sample(bus.rvalid)
            if valid:
                cycles.append(cycle)

    simulate(bench.dut, master)
    assert cycles == list(range(AxiMemory.latency, AxiMemory.latency + beats))


@pytest.mark.parametrize("size", [8, 24, 0])
def test_a_size_that_cannot_be_is_refused(size):
    text = f"AxiMemory.size must be a power of two of at least 16 bytes, not {size}"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        AxiMemory(size=size, bus_width=64)
