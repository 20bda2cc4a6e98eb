"""The command queue: order, semaphores, the bound on commands in flight, and its latencies."""

import random
from collections import Counter
from typing import Any

import pytest

from hw.control.queue import CommandQueue
from hw.isa import DESCRIPTORS, Unit
from hw.timing import IN_FLIGHT
from tb.sim import check_stream, simulate


def random_command(rng: random.Random, unit: Unit, pc: int) -> dict[str, Any]:
    fields = {field.name: rng.getrandbits(field.width) for field in DESCRIPTORS[unit]}
    wait = rng.choice([0, 1 << rng.randrange(16), 0x8001])
    return {"descriptor": fields, "wait": wait, "signal": rng.getrandbits(16), "pc": pc}


@pytest.mark.parametrize(("busy", "slow"), [(0.1, 0.1), (0.1, 0.9), (0.8, 0.3)])
@pytest.mark.parametrize(("unit", "depth"), [(Unit.LOAD, 2), (Unit.MATRIX, 4), (Unit.VECTOR, 5), (Unit.STORE, 16)])
def test_random_traffic(unit: Unit, depth: int, busy: float, slow: float) -> None:
    seed = depth * 10 + int(slow * 10)
    rng = random.Random(seed)
    dut = CommandQueue(unit, depth=depth, protection={Unit.VECTOR: "secded", Unit.STORE: "parity"}.get(unit, "none"))
    commands = [random_command(rng, unit, pc) for pc in range(120)]
    seen: Counter[str] = Counter()

    async def bench(ctx: Any) -> None:
        pushed = granted = started = done = 0           # commands so far; granted: their semaphores were taken
        ctx.set(dut.run, 1)
        offering = False
        while done < len(commands):
            if not offering and pushed < len(commands) and rng.random() >= 0.2:
                offering = True
            if offering:
                ctx.set(dut.i.payload, commands[pushed])
            grant = False
            ready = rng.random() >= busy
            finish = started > done and rng.random() >= slow
            ctx.set(dut.i.valid, offering)
            ctx.set(dut.o.ready, ready)
            ctx.set(dut.done, finish)

            assert ctx.get(dut.count) == pushed - done
            waits = pushed > started and commands[started]["wait"] and granted <= started
            assert ctx.get(dut.waiting) == ctx.get(dut.acquire.valid) == bool(waits)
            if waits:
                assert ctx.get(dut.acquire.mask) == commands[started]["wait"]
                grant = rng.random() < 0.5
            ctx.set(dut.acquire.grant, grant)
            valid = ctx.get(dut.o.valid)
            assert valid == (pushed > started and not waits and started - done < IN_FLIGHT)
            seen["bounded"] += bool(pushed > started and not waits and not valid)
            if valid:
                head = ctx.get(dut.o.payload)
                assert {name: getattr(head, name) for name in commands[started]["descriptor"]} == commands[started]["descriptor"]
            if started > done or pushed > started:
                assert ctx.get(dut.oldest_pc) == done
            assert ctx.get(dut.signal) == (commands[done]["signal"] if finish else 0)
            taken = offering and ctx.get(dut.i.ready)
            assert ctx.get(dut.i.ready) == (pushed - started < depth)
            seen["full"] += not ctx.get(dut.i.ready)
            pushed += taken
            offering = offering and not taken
            granted = started + 1 if grant else granted
            started += bool(valid and ready)
            done += finish
            await ctx.tick()

    simulate(dut, bench, background=[check_stream(dut.o)], seed=seed)
    assert seen["full"] or (busy, slow) == (0.1, 0.1)
    assert seen["bounded"] or slow < 0.9


def test_stopped_queue_keeps_its_state_and_clear_empties_it() -> None:
    rng = random.Random(0)
    dut = CommandQueue(Unit.VECTOR, depth=2)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.run, 1)
        for pc in range(3):
            ctx.set(dut.i.payload, {**random_command(rng, Unit.VECTOR, pc), "wait": pc and 1})
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.run, 0)
        ctx.set(dut.done, 1)
        for _ in range(3):
            await ctx.tick()
            assert [ctx.get(x) for x in (dut.count, dut.waiting, dut.oldest_pc)] == [3, 1, 0]
            assert [ctx.get(x) for x in (dut.o.valid, dut.acquire.valid, dut.signal)] == [0, 0, 0]
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        ctx.set(dut.run, 1)
        assert [ctx.get(x) for x in (dut.count, dut.waiting, dut.o.valid, dut.signal)] == [0, 0, 0, 0]

    simulate(dut, bench)
