"""The systolic engine under bad commands and `abort`: errors are precise, nothing lingers, the next command is right."""

import random

import pytest

from hw.array.systolic import SystolicEngine
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.systolic import result_rows
from tb.array.engine import CONFIGS, EngineBench, command_of, memory_image, random_command
from tb.sim import put_one, simulate

BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "n is zero": ({"n": 0}, ErrorCause.BAD_SIZE, 0),
    "k is zero": ({"k": 0}, ErrorCause.BAD_SIZE, 0),
    "activation address": ({"activation_addr": 6}, ErrorCause.MISALIGNED, 6),
    "activation stride": ({"activation_stride": 2}, ErrorCause.MISALIGNED, 2),
    "activation tile stride": ({"activation_tile_stride": 1}, ErrorCause.MISALIGNED, 1),
    "weight address": ({"weight_addr": 1023}, ErrorCause.MISALIGNED, 1023),
    "weight stride": ({"weight_stride": 3}, ErrorCause.MISALIGNED, 3),
    "weight tile stride": ({"weight_tile_stride": 5}, ErrorCause.MISALIGNED, 5),
    "first rule wins": ({"weight_addr": 1, "activation_stride": 3, "m": 0}, ErrorCause.BAD_SIZE, 0),
    "first activation": ({"activation_addr": 1024}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "later activation": ({"activation_addr": 1016, "activation_stride": 4}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "activation group": ({"activation_tile_stride": 1 << 23, "k": 20, "m": 20}, ErrorCause.SCRATCHPAD_RANGE, 1 << 23),
    "first weight": ({"weight_addr": 2048}, ErrorCause.SCRATCHPAD_RANGE, 2048),
    "later weight": ({"weight_stride": 512}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "weight group": ({"weight_tile_stride": 1024}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "address past 24 bits": ({"activation_addr": 1020, "activation_stride": (1 << 24) - 4}, ErrorCause.SCRATCHPAD_RANGE,
                             (1 << 24) + 1016),
    "accumulator row": ({"acc_addr": 32}, ErrorCause.ACCUMULATOR_RANGE, None),
    "later accumulator row": ({"acc_addr": 29}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator group": ({"acc_tile_stride": 32}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator row past 16 bits": ({"acc_addr": 31, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE, None),
}


@pytest.mark.parametrize("dataflow", Dataflow)
@pytest.mark.parametrize("case", BAD)
def test_errors_are_precise_and_abort_clears_them(case: str, dataflow: Dataflow) -> None:
    """Good commands before the bad one are done and written, nothing later is taken, and after `abort` the next one works."""
    config = CONFIGS["4x4"]
    change, cause, addr = BAD[case]
    good = command_of(5, 6, 9, Dataflow.OS if dataflow == Dataflow.WS else Dataflow.WS)
    bad = command_of(4, 8, 6, dataflow) | change
    scratchpad = memory_image(config, 1)
    dut = SystolicEngine(config)
    bench = EngineBench(dut, scratchpad)
    unit = dut.unit

    async def drive(ctx):
        found_cause, found_addr = await bench.stopped(ctx, good, bad, held=40)
        assert found_cause == cause
        if addr is not None:
            assert found_addr == addr
        else:
            assert found_addr >= config.accumulator_rows
        await put_one(ctx, unit.command, good)
        await bench.until_idle(ctx)

    simulate(dut, drive, background=[bench.memory, bench.record])
    expected = [(row, accumulate, list(psums)) for row, accumulate, psums in result_rows(config, good, scratchpad)]
    got = [row[1:] for row in bench.rows]
    assert got[:len(expected)] == got[-len(expected):] == expected
    assert len(bench.done) == 2
    if cause in (ErrorCause.BAD_SIZE, ErrorCause.MISALIGNED):
        assert len(got) == 2 * len(expected)


@pytest.mark.parametrize(("name", "dataflow"), [("2x4-ws", Dataflow.OS), ("4x3-os-w4", Dataflow.WS)])
def test_dataflow_that_is_not_built(name: str, dataflow: Dataflow) -> None:
    config = CONFIGS[name]
    dut = SystolicEngine(config)

    async def drive(ctx):
        await put_one(ctx, dut.unit.command, command_of(1, 1, 1, dataflow))
        await ctx.tick().until(dut.unit.error)
        assert ctx.get(dut.unit.report.cause) == ErrorCause.UNSUPPORTED
        assert ctx.get(dut.unit.report.addr) == dataflow

    simulate(dut, drive)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", ["4x4", "3x5"])
def test_abort_at_any_time(name: str, stall: float) -> None:
    """Idle at once, nothing of the old commands is written after it, and the next command is right."""
    config, seed = CONFIGS[name], 11
    rng = random.Random(seed)
    scratchpad = memory_image(config, seed)
    dut = SystolicEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, seed=seed)
    unit = dut.unit
    caught = 0

    async def drive(ctx):
        nonlocal caught
        for _ in range(8):
            for _ in range(2):
                await put_one(ctx, unit.command, random_command(config, rng))
            for _ in range(rng.randrange(30)):
                await ctx.tick()
            caught += ctx.get(unit.busy)
            ctx.set(unit.abort, 1)
            await ctx.tick()
            assert not ctx.get(unit.busy)
            ctx.set(unit.abort, 0)
            command = random_command(config, rng)
            before, done = len(bench.rows), len(bench.done)
            await put_one(ctx, unit.command, command)
            await bench.until_idle(ctx)
            got = [row[1:] for row in bench.rows[before:]]
            assert got == [(row, accumulate, list(psums)) for row, accumulate, psums in result_rows(config, command, scratchpad)]
            assert len(bench.done) == done + 1

    simulate(dut, drive, background=[bench.memory, bench.record], seed=seed)
    assert caught > 3
