"""Every way in which the controller stops before HALT, what it says of it, and that it starts again."""

from typing import Any

import pytest

from hw.isa import ErrorCause, Unit
from sw.assembler import Assembler
from tb.control.interpreter import Trace, interpret
from tb.control.programs import MISTAKES, random_program, words_of
from tb.control.system import BASE, DONE, ERROR, System

SEQUENCER = 4


def error_of(trace: Trace) -> dict[str, int]:
    return {"STATUS": ERROR, "IRQ_STATUS": 0b10, "ERROR": trace.cause | SEQUENCER << 8, "ERROR_PC": trace.pc,
            "ERROR_ADDR": trace.addr, "PC": trace.pc}


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


@pytest.mark.parametrize("behind", ["command", "signal", "register", "wait", "halt"])
def test_nothing_follows_an_overflow(behind: str) -> None:
    """The overflow shows one cycle late; what comes right behind it has no effect."""
    asm = Assembler()
    with asm.loop(255):
        asm.signal(9)
    asm.signal(9)
    {"command": lambda: asm.go(Unit.LOAD), "signal": lambda: asm.signal(3), "register": lambda: asm.set("load.rows", 1 << 20),
     "wait": lambda: asm.wait(9), "halt": asm.halt}[behind]()
    for unit in Unit:
        asm.go(unit)
    words = words_of(asm)
    system = System(lines=8)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (ERROR, ErrorCause.SEMAPHORE_OVERFLOW | SEQUENCER << 8)
        assert (end["ERROR_PC"], end["ERROR_ADDR"], end["PC"], end["QUEUES"]) == (3, 9, 4, 0)
        assert await system.semaphores(ctx) == [0] * 9 + [255] + [0] * 6
        assert await system.counter(ctx, "instructions") == 1 + 2 * 255 + 1
        assert not any(model.commands for model in system.units.values())
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


@pytest.mark.parametrize(("unit", "event"), [
    (Unit.LOAD, "load_beat"), (Unit.MATRIX, "matrix_active"), (Unit.MATRIX, "matrix_result"), (Unit.VECTOR, "vector_write"),
    (Unit.STORE, "store_beat"),
])
def test_watchdog_lets_a_long_command_work_and_ends_one_that_does_nothing(unit: Unit, event: str) -> None:
    """A command that is never done: as long as its unit moves now and then it goes on, however long; then it is a hang."""
    limit, pulses = 60, 20
    asm = Assembler()
    asm.go(unit)
    words = words_of(asm)
    system = System(units={unit: {"hangs": 0}})
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), watchdog=limit)
        for _ in range(pulses):
            await ctx.tick().repeat(limit - 1)
            ctx.set(getattr(system.dut, event), 1)
            await ctx.tick()
            ctx.set(getattr(system.dut, event), 0)
            assert not ctx.get(system.dut.irq)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (ERROR, ErrorCause.WATCHDOG | SEQUENCER << 8)
        assert end["QUEUES"] == 1 << 8 * unit
        assert 0 < await system.counter(ctx, "cycles") - (pulses + 1) * limit < 30
        system.units[unit].hangs = None
        await run_good(system, ctx)

    system.run(bench, stops=True)


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
