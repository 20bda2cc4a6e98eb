"""The controller against an interpreter: random programs, random units, every way to stop, and starting again."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hw.config import AcceleratorConfig
from hw.isa import LOOP_DEPTH, OPCODES, ErrorCause, Unit
from sw.assembler import Assembler
from tb.control.interpreter import Trace, interpret
from tb.control.programs import MISTAKES, random_program
from tb.control.system import BASE, System
from tb.control.units import UnitModel

SEQUENCER = 4
DONE, ERROR = 0b010, 0b100


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


def error_of(trace: Trace) -> dict[str, int]:
    return {"STATUS": ERROR, "IRQ_STATUS": 0b10, "ERROR": trace.cause | SEQUENCER << 8, "ERROR_PC": trace.pc,
            "ERROR_ADDR": trace.addr, "PC": trace.pc}


def words_of(asm: Assembler) -> npt.NDArray[np.uint64]:
    asm.halt()
    return asm.words()


GOOD = random_program(7, statements=8).words()


async def run_good(system: System, ctx: Any) -> None:
    """Run another program after a stop: it must not notice what was before."""
    before = {unit: len(model.commands) for unit, model in system.units.items()}
    trace = interpret([int(w) for w in GOOD], [3] * 16)
    system.load(GOOD, 0x4000)
    await system.start(ctx, len(GOOD), [3] * 16, addr=0x4000)
    end = await system.stopped(ctx)
    assert (end["STATUS"], end["IRQ_STATUS"], end["ERROR"], end["ERROR_PC"], end["ERROR_ADDR"]) == (DONE, 1, 0, 0, 0)
    assert await system.semaphores(ctx) == trace.counts
    assert await system.counter(ctx, "instructions") == trace.executed
    for unit, model in system.units.items():
        assert model.commands[before[unit]:] == [command.fields for command in trace.commands[unit]]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_stop_it_and_it_starts_again(mistake: str) -> None:
    seed = sorted(MISTAKES).index(mistake)
    system = System(seed=seed, stall=0.2, unit_stall=0.2)
    words = random_program(seed, statements=24, mistake=mistake).words()
    trace = interpret([int(w) for w in words], [1] * 16)
    assert trace.cause != ErrorCause.NONE
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), [1] * 16)
        end = await system.stopped(ctx)
        expected = error_of(trace)
        assert {name: end[name] for name in expected} == expected
        assert await system.counter(ctx, "instructions") == trace.executed
        assert all(model.aborted == 1 for model in system.units.values())
        system.check_commands(trace, complete=False)
        await run_good(system, ctx)

    system.run(bench, stops=True)


@pytest.mark.parametrize("bad", range(4))
def test_fetch_errors(bad: int) -> None:
    """A line that cannot be read stops the program that runs into it, and no other."""
    asm = Assembler()
    for i in range(10):
        asm.set("r2", i)
    with asm.loop(0):
        for _ in range(13):
            asm.set("r3", 1)
    words = words_of(asm)                               # lines 0 to 3, of which line 2 is jumped over
    system = System(stall=0.3, seed=bad)
    system.load(words)
    system.memory.faults[BASE + 64 * bad + 16] = 3
    trace = interpret([int(w) for w in words], base=BASE, bad_lines=[bad])
    assert (trace.cause == ErrorCause.NONE) == (bad == 2)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        if trace.cause == ErrorCause.NONE:
            assert end["STATUS"] == DONE
        else:
            expected = error_of(trace)
            assert {name: end[name] for name in expected} == expected
        system.memory.faults.clear()
        await run_good(system, ctx)

    system.run(bench, stops=True)


@pytest.mark.parametrize("unit", Unit)
def test_unit_errors(unit: Unit) -> None:
    """The first error wins, and names the command, whatever else is queued."""
    system = System(units={unit: {"fails": (5, ErrorCause.SCRATCHPAD_RANGE, 0xABCD)}}, seed=unit, unit_stall=0.3)
    asm = Assembler()
    with asm.loop(9):
        for other in Unit:
            asm.go(other, signal=[other])
    asm.wait(15)
    words = words_of(asm)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        assert end["STATUS"] == ERROR
        assert (end["ERROR"] & 0xFF, end["ERROR"] >> 8) == (ErrorCause.SCRATCHPAD_RANGE, unit)
        assert (end["ERROR_PC"], end["ERROR_ADDR"]) == (1 + unit, 0xABCD)
        assert (await system.semaphores(ctx))[unit] == 5
        assert end["QUEUES"] >> 8 * unit & 0xFF >= 1, "the queues at the stop stay readable"
        assert all(model.aborted == 1 for model in system.units.values())
        system.units[unit].fails = None
        await run_good(system, ctx)

    system.run(bench, stops=True)


@pytest.mark.parametrize("by_unit", [False, True])
def test_semaphore_overflow(by_unit: bool) -> None:
    asm = Assembler()
    with asm.loop(255):
        asm.signal(9)
    if by_unit:
        asm.go(Unit.VECTOR, signal=[9, 10])
        asm.fence()
    else:
        asm.signal(8, 9, 10)
    words = words_of(asm)
    system = System()
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        assert end["STATUS"] == ERROR
        expected_unit = Unit.VECTOR if by_unit else SEQUENCER
        assert (end["ERROR"] & 0xFF, end["ERROR"] >> 8) == (ErrorCause.SEMAPHORE_OVERFLOW, expected_unit)
        assert (end["ERROR_PC"], end["ERROR_ADDR"]) == (3, 9)
        assert (await system.semaphores(ctx))[9] == 255
        await run_good(system, ctx)

    system.run(bench, stops=True)


def test_misaligned_program() -> None:
    system = System()

    async def bench(ctx: Any) -> None:
        await system.start(ctx, 100, addr=BASE + 32)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (ERROR, ErrorCause.MISALIGNED | SEQUENCER << 8)
        assert (end["ERROR_PC"], end["ERROR_ADDR"]) == (0, BASE + 32)
        await run_good(system, ctx)

    system.run(bench, stops=True)


def test_watchdog_shows_who_waits() -> None:
    """A semaphore that nobody signals: the load queue, the sequencer and everything behind them stay visible."""
    asm = Assembler()
    asm.go(Unit.STORE)
    asm.go(Unit.LOAD, wait=[3], signal=[4])
    asm.go(Unit.LOAD)
    asm.signal(5, 5, 6)
    asm.wait(6, 7)
    words = words_of(asm)
    system = System(units={Unit.STORE: {"hangs": 0}})
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), watchdog=150)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (ERROR, ErrorCause.WATCHDOG | SEQUENCER << 8)
        assert (end["ERROR_PC"], end["PC"]) == (4, 4)
        assert end["QUEUES"] == 2 | 1 << 24
        assert end["WAITING"] == 0b10001
        assert await system.semaphores(ctx) == [0] * 5 + [1, 1] + [0] * 9
        assert 150 < await system.counter(ctx, "cycles") < 250
        assert await system.counter(ctx, "load_wait") > 140
        system.units[Unit.STORE].hangs = None
        await run_good(system, ctx)

    system.run(bench, stops=True)


def test_watchdog_lets_slow_work_finish() -> None:
    asm = Assembler()
    with asm.loop(4):
        asm.go(Unit.MATRIX)
    words = words_of(asm)
    system = System(longest=60, seed=4)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), watchdog=61)
        assert (await system.stopped(ctx))["STATUS"] == DONE

    system.run(bench)


def test_memory_that_never_answers() -> None:
    """The error is reported although nothing drains; it is busy until the bus has answered, and then starts again."""
    system = System()
    system.load(GOOD)
    answering: list[bool] = []

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(GOOD), watchdog=100)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (0b101, ErrorCause.WATCHDOG | SEQUENCER << 8)
        await system.host.write(ctx, "CONTROL", 1)
        assert await system.host.read(ctx, "STATUS") == 0b101, "a start while busy is ignored"
        answering.append(True)
        while await system.host.read(ctx, "STATUS") & 1:
            pass
        assert await system.host.read(ctx, "STATUS") == ERROR
        await run_good(system, ctx)

    async def memory(ctx: Any) -> None:
        async for _ in ctx.tick():
            if answering:
                break
        await system.memory.read(system.dut.fetch)(ctx)

    system.run(bench, memory, memory=False, stops=True)


@pytest.mark.parametrize("moment", [0, 5, 31, 33, 50, 150])
def test_abort_at_any_time(moment: int) -> None:
    system = System(stall=0.2, unit_stall=0.2, longest=50, seed=moment)
    asm = Assembler()
    with asm.loop(0xFFFF):
        for unit in Unit:
            asm.go(unit)
    words = words_of(asm)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.host.write(ctx, "CONTROL", 0b10)
        assert await system.host.read(ctx, "STATUS") == 0, "nothing to abort"
        await system.start(ctx, len(words))
        await ctx.tick().repeat(1 + moment)
        await system.host.write(ctx, "CONTROL", 0b01)
        await system.host.write(ctx, "CONTROL", 0b10)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (ERROR, ErrorCause.ABORTED | SEQUENCER << 8)
        assert max(end["ERROR_PC"], end["PC"]) < len(words)
        await run_good(system, ctx)

    system.run(bench, stops=True)


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
        await run_good(system, ctx)

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
    model: UnitModel = system.units[Unit.STORE]
    assert model.most_taken == 4
    assert model.finished == 12
