"""The load unit's source of angles: records set it, rows of it come between blocks of DRAM, wrong commands are refused."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from sw.golden.branch import begin
from sw.golden.refusal import Refusal
from sw.golden.state import State
from sw.golden.token.angles import angle_records
from sw.golden.units import run_load
from tb.memory.blocks import Block, random_block
from tb.memory.dma import LoadBench

PAIRS = 16
COMMON: dict[str, Any] = {"vector": "transformer", "rotary_pairs": PAIRS, "scratchpad_bytes": 8192, "outstanding_reads": 4}
CONFIGS = {"b64": AcceleratorConfig(bus_width=64, **COMMON), "b128": AcceleratorConfig(bus_width=128, burst_beats=2, **COMMON),
           "b256-stream": AcceleratorConfig(engine="hybrid", dataflows=("ws",), rows=8, columns=8, weight_formats=("mxint4",),
                                            bus_width=256, **COMMON)}
PLAIN: Block = {"dram_addr": 0, "dram_stride": 64, "rows": 2, "row_bytes": 40, "addr": 0, "stride": 64, "transpose": 0,
                "unpack": 0, "stream": 0}
RECORDS = PLAIN | {"rows": 1, "row_bytes": 16 * PAIRS, "transpose": 1, "stream": 1, "dram_addr": 4096}
ANGLES = PLAIN | {"row_bytes": 4 * PAIRS, "unpack": 1, "stream": 1, "dram_stride": 0}


def golden_state(bench: LoadBench) -> State:
    """Return the memories of a bench as the golden device has them before its first command."""
    state = begin(bench.config, bench.memory.data)
    state.scratchpad[:] = bench.scratchpad
    return state


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_angles_between_blocks(name: str, stall: float) -> None:
    config, rng = CONFIGS[name], random.Random(name)
    bench = LoadBench(config, stall=stall, seed=5)
    frequencies, beat = 1e4 ** (-np.arange(PAIRS) / PAIRS), config.beat_bytes
    for index, position in enumerate((3, 700)):
        bench.memory.data[4096 + 256 * index:4352 + 256 * index] = angle_records(frequencies, position)
    blocks = [ANGLES, RECORDS]
    for index in range(18):
        half = beat * rng.randint(1, 4 * PAIRS // beat)
        angles = {"row_bytes": half, "stride": half, "dram_stride": beat * rng.randrange(2), "addr": beat * rng.randrange(64),
                  "dram_addr": beat * rng.randrange(64), "rows": 1 + (rng.random() < 0.8)}
        block = random_block(rng, config, 4096, transpose=index % 6 == 4, unpack=index % 6 == 1, most_beats=6) | {"stream": 0}
        blocks.append(block if index % 3 == 1 else ANGLES | angles)
        if index == 9:
            blocks.append(RECORDS | {"dram_addr": 4352, "row_bytes": 64})
    state = golden_state(bench)
    bench.run_blocks(blocks)
    for got, block in zip(bench.states, blocks, strict=True):
        run_load(state, block)
        assert (got == state.scratchpad).all(), block
    assert len(bench.states) == len(blocks)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_rows_come_a_beat_a_cycle_and_abort_leaves_nothing_behind(stall: float) -> None:
    config = CONFIGS["b128"]
    bench = LoadBench(config, stall=stall)
    bench.memory.data[4096:4352] = angle_records(1e4 ** (-np.arange(PAIRS) / PAIRS), 5)

    async def drive(ctx: Any) -> None:
        for block in (RECORDS, ANGLES, ANGLES | {"dram_stride": 64}, RECORDS):
            await bench.send(ctx, [block])
            for _ in range(7):
                await ctx.tick()
            await bench.abort(ctx)
        bench.done.clear()
        bench.states.clear()
        bench.accepted.clear()
        for block in (RECORDS, ANGLES | {"addr": 128, "dram_stride": 64}, ANGLES, ANGLES | {"addr": 256}):
            await bench.send(ctx, [block])
            await bench.settle(ctx)

    bench.run(drive)
    state = golden_state(bench)
    for block in (RECORDS, ANGLES | {"addr": 128, "dram_stride": 64}, ANGLES, ANGLES | {"addr": 256}):
        run_load(state, block)
    assert (bench.scratchpad[:384] == state.scratchpad[:384]).all()
    if not stall:                                       # 8 beats, made before, behind the way through the unit
        assert bench.done[-1] - bench.accepted[-1] + 1 == 5 + 8


@pytest.mark.parametrize(("change", "cause", "addr"), [
    (ANGLES | {"transpose": 1}, ErrorCause.UNSUPPORTED, 1), (PLAIN | {"stream": 1}, ErrorCause.UNSUPPORTED, 1),
    (ANGLES | {"rows": 3}, ErrorCause.BAD_SIZE, 3), (ANGLES | {"row_bytes": 4 * PAIRS + 1}, ErrorCause.BAD_SIZE, 4 * PAIRS + 1),
    (RECORDS | {"rows": 2}, ErrorCause.BAD_SIZE, 2), (RECORDS | {"row_bytes": 24}, ErrorCause.BAD_SIZE, 24),
    (RECORDS | {"row_bytes": 16 * PAIRS + 16}, ErrorCause.BAD_SIZE, 16 * PAIRS + 16),
    (ANGLES | {"addr": 8192}, ErrorCause.SCRATCHPAD_RANGE, 8192), (RECORDS | {"dram_addr": 8}, ErrorCause.MISALIGNED, 8)])
def test_what_cannot_be_is_refused(change: Block, cause: ErrorCause, addr: int) -> None:
    config = CONFIGS["b128"]
    bench = LoadBench(config)

    async def drive(ctx: Any) -> None:
        await bench.send(ctx, [PLAIN, change])
        await ctx.tick().until(bench.dut.unit.error)
        assert (ctx.get(bench.dut.unit.report.cause), ctx.get(bench.dut.unit.report.addr)) == (cause, addr)

    bench.run(drive)
    assert len(bench.done) == 1
    with pytest.raises(Refusal) as refusal:
        run_load(golden_state(bench), change)
    assert (refusal.value.cause, refusal.value.addr) == (cause, addr)


def test_configs_without_it_refuse_angles() -> None:
    with pytest.raises(Refusal) as refusal:
        run_load(begin(AcceleratorConfig(**(COMMON | {"rotary_pairs": 0})), np.zeros(4096, np.uint8)), ANGLES)
    assert refusal.value.cause == ErrorCause.UNSUPPORTED
