"""The controller against an interpreter: random programs, random units; arguments, counters, interrupt."""

import random
from typing import Any

import pytest

from hw.config import AcceleratorConfig
from hw.isa import LOOP_DEPTH, OPCODES, ErrorCause, Unit
from sw.assembler import Assembler
from tb.control.interpreter import interpret
from tb.control.programs import random_program, words_of
from tb.control.system import BASE, DONE, System


def arguments_of(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(32) for _ in range(15)] + [rng.randrange(3)]


SEEDS, STATEMENTS = 2, 40
CASES = [
    dict(bus_width=128, lines=4, stall=0.3, unit_stall=0.5, longest=40, depth=2),
    dict(bus_width=64, lines=8, stall=0.0, longest=4),
    dict(bus_width=512, lines=4, latency=1, room=1, longest=10, depth=3),
    dict(bus_width=256, lines=32, latency=30, longest=1),
    dict(bus_width=128, lines=8, stall=0.5, latency=2, longest=70, depth=16),
]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("case", range(len(CASES)))
def test_random_programs(case: int, seed: int) -> None:
    system = System(**CASES[case], seed=100 * case + seed)
    words = random_program(100 * case + seed, statements=STATEMENTS).words()
    arguments = arguments_of(seed)
    trace = interpret([int(w) for w in words], arguments)
    assert trace.cause == ErrorCause.NONE
    assert sum(len(commands) for commands in trace.commands.values()) >= 10
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), arguments)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["IRQ_STATUS"], end["ERROR"], end["QUEUES"], end["WAITING"]) == (DONE, 1, 0, 0, 0)
        assert await system.semaphores(ctx) == trace.counts
        assert await system.counter(ctx, "instructions") == trace.executed
        assert await system.counter(ctx, "bytes_read") == 64 * len(system.memory.reads)
        for unit, model in system.units.items():
            assert await system.counter(ctx, f"{unit.name.lower()}_busy") == model.busy_cycles

    system.run(bench)
    system.check_commands(trace, complete=True)
    lines = (len(words) + 7) // 8
    assert {addr for addr, _ in system.memory.reads} <= {BASE + 64 * i for i in range(lines)}


def test_the_random_programs_reach_everything() -> None:
    traces = [interpret([int(w) for w in random_program(100 * case + seed, statements=STATEMENTS).words()], arguments_of(seed))
              for case in range(len(CASES)) for seed in range(SEEDS)]
    assert set().union(*(trace.opcodes for trace in traces)) == {int(op) for op in OPCODES}
    assert max(trace.depth for trace in traces) == LOOP_DEPTH
    assert sum(command.wait != 0 for trace in traces for unit in Unit for command in trace.commands[unit]) > 100


def test_doorbell_copies_arguments_once() -> None:
    """Arguments for the next run may be written as soon as the doorbell has rung."""
    asm = Assembler()
    for i in range(16):
        asm.set("load.dram_addr", f"r{16 + i}")
        asm.go(Unit.LOAD)
    words = words_of(asm)
    system = System()
    system.load(words)
    first, second = list(range(100, 116)), list(range(200, 216))

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), first)
        for i in reversed(range(16)):
            await system.host.write(ctx, f"ARG{i}", second[i])
        assert (await system.stopped(ctx))["STATUS"] == DONE
        await system.start(ctx, len(words))
        assert (await system.stopped(ctx))["STATUS"] == DONE

    system.run(bench)
    assert [command["dram_addr"] for command in system.units[Unit.LOAD].commands] == first + second


def test_counters_count_events_while_busy() -> None:
    config = AcceleratorConfig()
    rng = random.Random(5)
    system = System()
    dut = system.dut
    asm = Assembler()
    for _ in range(6):
        asm.go(Unit.LOAD)
        asm.go(Unit.STORE)
    words = words_of(asm)
    system.load(words)
    widest = {"load_beat": 1, "store_beat": 1, "store_bytes": config.beat_bytes, "matrix_active": 1,
              "macs": config.peak_macs_per_cycle, "macs_gated": config.peak_macs_per_cycle, "saturated": 1}
    totals = dict.fromkeys((*widest, "load_stall", "store_stall", "cycles"), 0)
    window = {"open": False}

    async def events(ctx: Any) -> None:
        unit_busy = system.units[Unit.LOAD].port.busy, system.units[Unit.STORE].port.busy
        values = dict.fromkeys(widest, 0)
        async for _, _, load_busy, store_busy in ctx.tick().sample(*unit_busy):
            totals["load_stall"] += load_busy and not values["load_beat"]
            totals["store_stall"] += store_busy and not values["store_beat"]
            values = {name: rng.randint(0, most) if window["open"] else 0 for name, most in widest.items()}
            values["store_bytes"] *= values["store_beat"]
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
                totals[name] += value

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        assert await system.host.read(ctx, "STATUS") == 1
        window["open"] = True
        await ctx.tick().repeat(40)
        window["open"] = False
        await ctx.tick().repeat(2)
        assert await system.host.read(ctx, "STATUS") == 0b1001
        assert (await system.stopped(ctx))["STATUS"] == DONE | 0b1000
        for name in ("matrix_active", "macs", "macs_gated", "load_stall", "store_stall"):
            assert await system.counter(ctx, name) == totals[name], name
        assert await system.counter(ctx, "saturations") == totals["saturated"] > 10
        assert await system.counter(ctx, "bytes_written") == totals["store_bytes"] > 100
        fetched = 64 * len(system.memory.reads)
        assert await system.counter(ctx, "bytes_read") == totals["load_beat"] * config.beat_bytes + fetched

    system.run(bench, events)


def test_interrupt_is_enabled_and_cleared() -> None:
    system = System()
    words = words_of(Assembler())
    system.load(words)
    host = system.host

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        await host.write(ctx, "IRQ_ENABLE", 0b10)
        while not await host.read(ctx, "IRQ_STATUS"):
            assert not ctx.get(system.dut.irq)
        assert not ctx.get(system.dut.irq)
        await host.write(ctx, "IRQ_ENABLE", 0b01)
        assert ctx.get(system.dut.irq)
        await host.write(ctx, "IRQ_STATUS", 0b10)
        assert ctx.get(system.dut.irq)
        await host.write(ctx, "IRQ_STATUS", 0b01)
        await ctx.tick()
        assert not ctx.get(system.dut.irq)
        assert await host.read(ctx, "STATUS") == DONE

    system.run(bench)


def test_unit_models_were_pressed() -> None:
    """With slow units the queue is what bounds: the controller hands out four commands and no more."""
    system = System(longest=30, seed=1, depth=2)
    asm = Assembler()
    with asm.loop(12):
        asm.go(Unit.STORE)
    words = words_of(asm)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        assert (await system.stopped(ctx))["STATUS"] == DONE

    system.run(bench)
    model = system.units[Unit.STORE]
    assert model.most_taken == 4
    assert model.finished == 12
