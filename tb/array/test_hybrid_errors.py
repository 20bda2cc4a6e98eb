"""The hybrid engine under bad commands and `abort`: errors are precise, nothing lingers, the next command is right."""

import random

import pytest

from hw.array.hybrid import HybridEngine
from hw.engines.hybrid import MODE_MESH, MODE_STREAM, PASS_ROWS
from hw.isa import Dataflow, ErrorCause
from sw.golden.refusal import Refusal
from tb.array.engine import EngineBench, command_of, memory_image
from tb.array.hybrid import HYBRID_CONFIGS, accumulated, golden_state, random_hybrid_command
from tb.sim import put_one, simulate

CONFIG = HYBRID_CONFIGS["4-2"]
PAD, ROWS = CONFIG.scratchpad_bytes, CONFIG.accumulator_rows
PACKED = {"mode": 1}
BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "n is zero": ({"n": 0}, ErrorCause.BAD_SIZE, 0),
    "k is zero": ({"k": 0} | PACKED, ErrorCause.BAD_SIZE, 0),
    "output-stationary": ({"dataflow": 1}, ErrorCause.UNSUPPORTED, 1),
    "serialized": ({"serialize": 1}, ErrorCause.UNSUPPORTED, 1),
    "no such format": ({"mode": 3}, ErrorCause.UNSUPPORTED, 3),
    "plain from the stream": ({"mode": MODE_STREAM}, ErrorCause.UNSUPPORTED, MODE_STREAM),
    "pieces from the stream": ({"mode": MODE_STREAM | 1, "m": PASS_ROWS + 1}, ErrorCause.UNSUPPORTED, MODE_STREAM | 1),
    "activation address": ({"activation_addr": 6}, ErrorCause.MISALIGNED, 6),
    "activation stride": ({"activation_stride": 2} | PACKED, ErrorCause.MISALIGNED, 2),
    "plain weight stride": ({"weight_stride": 3}, ErrorCause.MISALIGNED, 3),
    "plain weight group": ({"weight_tile_stride": 5}, ErrorCause.MISALIGNED, 5),
    "packed weights": ({"weight_addr": 4} | PACKED, ErrorCause.MISALIGNED, 4),
    "packed weight group": ({"weight_tile_stride": 12} | PACKED, ErrorCause.MISALIGNED, 12),
    "first rule wins": ({"weight_addr": 1, "activation_stride": 3, "m": 0}, ErrorCause.BAD_SIZE, 0),
    "first activation": ({"activation_addr": PAD}, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "later activation": ({"activation_addr": PAD - 8, "activation_stride": 8, "k": 4}, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "activation of the clusters": ({"activation_addr": PAD - 8, "m": 1} | PACKED, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "plain weights": ({"weight_addr": PAD}, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "packed weights outside": ({"weight_addr": PAD - 64} | PACKED, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "packed group outside": ({"weight_tile_stride": PAD} | PACKED, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "words of the clusters": ({"weight_addr": PAD - 64, "m": 1} | PACKED, ErrorCause.SCRATCHPAD_RANGE, PAD),
    "accumulator row": ({"acc_addr": ROWS}, ErrorCause.ACCUMULATOR_RANGE, ROWS),
    "later accumulator row": ({"acc_addr": ROWS - 2} | PACKED, ErrorCause.ACCUMULATOR_RANGE, ROWS),
    "row of the clusters": ({"acc_addr": ROWS, "m": 1} | PACKED, ErrorCause.ACCUMULATOR_RANGE, ROWS),
    "accumulator group": ({"acc_tile_stride": ROWS}, ErrorCause.ACCUMULATOR_RANGE, ROWS),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_precise_and_abort_clears_them(case: str) -> None:
    """The good command before is done and written, nothing later is taken, and after `abort` the next one works."""
    change, cause, addr = BAD[case]
    good = command_of(3, 6, 34, Dataflow.WS, mode=1, weight_tile_stride=144, activation_stride=8)
    bad = command_of(4, 8, 9, Dataflow.WS) | change
    scratchpad = memory_image(CONFIG, 1)
    dut = HybridEngine(CONFIG)
    bench = EngineBench(dut, scratchpad)
    unit = dut.unit

    async def drive(ctx):
        assert await bench.stopped(ctx, good, bad, held=30) == (cause, addr)
        bench.rows.clear()
        await put_one(ctx, unit.command, good | {"m": 1})
        await bench.until_idle(ctx)

    simulate(dut, drive, background=[bench.memory, bench.record])
    assert len(bench.done) == 2
    assert (accumulated(bench) == golden_state(CONFIG, scratchpad, [good | {"m": 1}]).accumulator).all()
    with pytest.raises(Refusal) as refusal:
        golden_state(CONFIG, scratchpad, [bad])
    assert refusal.value.cause == cause
    if cause not in (ErrorCause.SCRATCHPAD_RANGE, ErrorCause.ACCUMULATOR_RANGE):
        assert refusal.value.addr == addr


def test_abort_at_any_time() -> None:
    """Idle at once, nothing of the old commands is written after it, and the next command is right."""
    config, seed = HYBRID_CONFIGS["8-4"], 11
    rng = random.Random(seed)
    scratchpad = memory_image(config, seed)
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad, stall=0.2, seed=seed)
    unit = dut.unit
    caught = 0

    async def drive(ctx):
        nonlocal caught
        for _ in range(5):
            for kind in ("clusters", "mesh", "plain"):
                await put_one(ctx, unit.command, random_hybrid_command(config, rng, kind))
            for _ in range(rng.randrange(30)):
                await ctx.tick()
            caught += ctx.get(unit.busy)
            ctx.set(unit.abort, 1)
            await ctx.tick()
            assert not ctx.get(unit.busy)
            ctx.set(unit.abort, 0)
            bench.rows.clear()
            done = len(bench.done)
            command = random_hybrid_command(config, rng, rng.choice(["clusters", "mesh"])) | {"mode": 1 | MODE_MESH}
            await put_one(ctx, unit.command, command)
            await bench.until_idle(ctx)
            assert (accumulated(bench) == golden_state(config, scratchpad, [command]).accumulator).all()
            assert len(bench.done) == done + 1

    simulate(dut, drive, background=[bench.memory, bench.record], seed=seed)
    assert caught > 2
