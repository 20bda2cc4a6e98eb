"""The read arbiter: two masters behind one bus, with a memory that answers the ids in any order."""

import random
from typing import Any

import pytest

from hw.config import AcceleratorConfig
from hw.memory.arbiter import ReadArbiter
from hw.ports import AXI_FETCH_ID
from tb.sim import AxiMemory, Bench, simulate

CONFIG = AcceleratorConfig(bus_width=64)
BEAT = CONFIG.beat_bytes


def master(port: Any, bursts: list[tuple[int, int]], into: list[int], stall: float, seed: int) -> tuple[Bench, Bench]:
    """Return two testbenches that send the bursts (address, beats) and collect the data of all their beats."""
    rng = random.Random(seed)

    async def addresses(ctx: Any) -> None:
        ctx.set(port.arsize, 3)
        ctx.set(port.arburst, 1)
        for addr, beats in bursts:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(port.araddr, addr)
            ctx.set(port.arlen, beats - 1)
            ctx.set(port.arvalid, 1)
            await ctx.tick().until(port.arready)
            ctx.set(port.arvalid, 0)

    async def beats(ctx: Any) -> None:
        for _, count in bursts:
            for beat in range(count):
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(port.rready, 1)
                data, last = await ctx.tick().sample(port.rdata, port.rlast).until(port.rvalid)
                ctx.set(port.rready, 0)
                assert last == (beat == count - 1)
                into.append(data)

    return addresses, beats


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_each_master_gets_its_own_beats(stall: float) -> None:
    rng = random.Random(f"arbiter {stall}")
    dut = ReadArbiter(CONFIG)
    memory = AxiMemory(8192, CONFIG.bus_width, latency=5, stall=stall, seed=1)
    bursts = [[(BEAT * rng.randrange(256), rng.randint(1, 8)) for _ in range(60)] for _ in range(2)]
    got: list[list[int]] = [[], []]
    fetches, collisions = [], []

    async def watch(ctx: Any) -> None:
        sampled = (dut.bus.arvalid, dut.bus.arready, dut.bus.arid, dut.load.arvalid, dut.fetch.arvalid)
        held = False
        async for _, _, valid, ready, number, load, fetch in ctx.tick().sample(*sampled):
            if valid and not held:
                collisions.append(load and fetch)
                assert (number == AXI_FETCH_ID) == fetch
            held = valid and not ready
            fetches.append(valid and ready and number == AXI_FETCH_ID)

    simulate(dut, *master(dut.load, bursts[0], got[0], stall, 2), *master(dut.fetch, bursts[1], got[1], stall, 3),
             background=[memory.read(dut.bus), memory.check_read(dut.bus), watch], seed=1)
    for addresses, beats in zip(bursts, got, strict=True):
        want = [int.from_bytes(memory.data[addr + BEAT * i:addr + BEAT * (i + 1)].tobytes(), "little")
                for addr, count in addresses for i in range(count)]
        assert beats == want
    assert sum(fetches) == len(bursts[1])
    assert sum(collisions) > 10
