"""The load unit against a plain description of what a load does, with an AXI memory that checks the rules of the bus."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import ErrorCause
from hw.timing import load_cycles
from tb.memory.blocks import Block, Bytes, beats_of, load_block, random_block
from tb.memory.dma import BEAT, CONFIGS, DRAM_BYTES, SCRATCHPAD, WRONG_BLOCKS, LoadBench

GOOD: Block = {"dram_addr": 4096 - BEAT, "dram_stride": 4 * BEAT, "rows": 3, "row_bytes": 3 * BEAT - 5, "addr": 512,
               "stride": 4 * BEAT, "transpose": 0, "unpack": 0}
MANY: Block = {**GOOD, "dram_addr": 0, "rows": 100, "stride": 0}        # more bursts than can be in flight


def some_blocks(name: str, seed: object, count: int) -> list[Block]:
    """Return random blocks: transposed or not, unpacked or not."""
    rng = random.Random(f"{name} {seed}")
    most = 6 if CONFIGS[name].bus_width == 512 else 40
    kinds = [(False, False), (True, False), (False, True), (True, True)] * ceil_div(count, 4)
    rng.shuffle(kinds)
    return [random_block(rng, CONFIGS[name], DRAM_BYTES, transpose=transpose, unpack=unpack, most_beats=most)
            for transpose, unpack in kinds[:count]]


def check_states(bench: LoadBench, blocks: list[Block], expected: Bytes, first: int = 0) -> None:
    """Compare the scratchpad after each `done`, from the `first` on, with what the blocks make of `expected`."""
    for index, (got, block) in enumerate(zip(bench.states[first:], blocks, strict=True)):
        load_block(block, bench.memory.data, expected, bench.config.beat_bytes)
        wrong = np.flatnonzero(got != expected)
        assert not len(wrong), f"after block {index} {block}: first wrong bytes {wrong[:8]}"


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_blocks(name: str, stall: float) -> None:
    config = CONFIGS[name]
    blocks = some_blocks(name, stall, 20)
    bench = LoadBench(config, stall=stall, seed=7)
    before = bench.scratchpad.copy()
    bench.run_blocks(blocks)
    check_states(bench, blocks, before)
    assert len(bench.beats) == sum(beats_of(block, config.beat_bytes) for block in blocks)
    assert bench.memory.most_in_flight == config.outstanding_reads
    beat = config.beat_bytes
    for field in ("transpose", "unpack"):
        assert len({(block[field], block["row_bytes"] % beat != 0) for block in blocks}) == 4
    assert {0 < block["row_bytes"] % beat <= beat // 2 for block in blocks if block["unpack"]} == {False, True}
    if stall:
        assert bench.refused
        assert bench.memory.stalls


@pytest.mark.parametrize("latency", [1, 20])
@pytest.mark.parametrize("name", ["b128", "b512"])
def test_cycles_of_one_command(name: str, latency: int) -> None:
    config = AcceleratorConfig(**{**CONFIGS[name].to_dict(), "outstanding_reads": 32})
    beat = config.beat_bytes
    shapes = ((1, beat - 1), (1, 4 * beat), (9, beat // 2), (4, 3 * beat + 3), (beat + 1, 2 * beat - 1))
    blocks = [{**GOOD, "rows": rows, "row_bytes": row_bytes, "transpose": transpose, "unpack": unpack, "addr": 0, "dram_addr": 0,
               "stride": beat} for transpose in (0, 1) for unpack in (0, 1) for rows, row_bytes in shapes]
    bench = LoadBench(config, latency=latency)

    async def one_after_the_other(ctx: Any) -> None:
        for block in blocks:
            await bench.send(ctx, [block])
            await bench.settle(ctx)

    bench.run(one_after_the_other)
    took = [done - accepted + 1 for accepted, done in zip(bench.accepted, bench.done, strict=True)]
    assert took == [load_cycles(config, rows=block["rows"], row_bytes=block["row_bytes"], transpose=bool(block["transpose"]),
                                unpack=bool(block["unpack"]), memory_latency=latency) for block in blocks]


@pytest.mark.parametrize("transpose", [0, 1])
def test_commands_follow_each_other_without_a_gap(transpose: int) -> None:
    config = AcceleratorConfig(**{**CONFIGS["b128"].to_dict(), "outstanding_reads": 32})
    beat, latency = config.beat_bytes, 20
    shapes = [(beat, 2), (2 * beat, 1), (beat, 3)] if transpose else [(1, 1), (7, 1), (1, 30), (5, 3), (1, 1), (2, 17)]
    blocks = [{**GOOD, "rows": rows, "row_bytes": beats * beat, "transpose": transpose, "addr": 0, "dram_addr": 0}
              for rows, beats in shapes]
    bench = LoadBench(config, latency=latency)
    bench.run_blocks(blocks)
    assert bench.beats == list(range(bench.beats[0], bench.beats[0] + sum(beats_of(block, beat) for block in blocks)))


@pytest.mark.parametrize("transpose", [0, 1])
def test_unpacked_commands_among_others_write_in_every_cycle(transpose: int) -> None:
    config = AcceleratorConfig(**{**CONFIGS["b128"].to_dict(), "outstanding_reads": 32})
    beat, latency = config.beat_bytes, 20
    shapes = [(1, 1, 0), (7, 1, 1), (1, 30, 1), (5, 3, 0), (1, 1, 1), (2, 17, 0)]
    if transpose:
        shapes = [(beat, 2, 1), (2 * beat, 1, 0), (beat, 1, 1), (beat, 3, 0), (beat, 1, 1)]
    blocks = [{**GOOD, "rows": rows, "row_bytes": beats * beat, "transpose": transpose, "unpack": unpack, "addr": 0,
               "dram_addr": 0, "stride": 2 * beat} for rows, beats, unpack in shapes]
    bench = LoadBench(config, latency=latency)
    before = bench.scratchpad.copy()
    bench.run_blocks(blocks)
    check_states(bench, blocks, before)
    writes = sum(beats_of(block, beat) << block["unpack"] for block in blocks)
    assert bench.done[-1] - bench.beats[0] == writes + transpose * beat + 1


def test_few_bursts_in_flight_limit_the_rate() -> None:
    config = AcceleratorConfig(bus_width=128, burst_beats=4, outstanding_reads=3, scratchpad_bytes=8192)
    latency, bursts = 20, 24
    bench = LoadBench(config, latency=latency)
    bench.run_blocks([{**GOOD, "dram_addr": 0, "rows": 1, "row_bytes": bursts * 4 * BEAT, "addr": 0}])
    # Each of the three places is held from the address to the last beat: latency + 4 + 2 cycles.
    assert bench.done[0] - bench.accepted[0] + 1 == (bursts // 3) * (latency + 6) + 2 + 2 * 4


WRONG = {
    **WRONG_BLOCKS,
    "column-outside": ({"transpose": 1, "stride": 4096}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD + 512),
    "column-wraps": ({"dram_addr": (1 << 32) - 8 * BEAT, "transpose": 1}, ErrorCause.BAD_SIZE, 0),
    "stride-wraps-twice": ({"dram_stride": (1 << 32) - BEAT, "transpose": 1}, ErrorCause.BAD_SIZE, 4096 - 2 * BEAT),
    "bus": ({"dram_addr": 16384}, ErrorCause.BUS_READ, 16384 + BEAT),
    "bus-transposed": ({"dram_addr": 16384, "transpose": 1}, ErrorCause.BUS_READ, 16384 + BEAT),
    "bus-unpacked": ({"dram_addr": 16384, "unpack": 1}, ErrorCause.BUS_READ, 16384 + BEAT),
    "bus-unpacked-transposed": ({"dram_addr": 16384, "transpose": 1, "unpack": 1}, ErrorCause.BUS_READ, 16384 + BEAT),
    "second-half-outside": ({"addr": SCRATCHPAD - BEAT, "unpack": 1}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD),
    "second-half-far-outside": ({"addr": SCRATCHPAD - BEAT, "stride": (1 << 24) - BEAT, "unpack": 1, "transpose": 1},
                                ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD + (1 << 24) - 2 * BEAT),
    "column-outside-unpacked": ({"transpose": 1, "unpack": 1, "stride": 4096}, ErrorCause.SCRATCHPAD_RANGE, SCRATCHPAD + 512),
}


@pytest.mark.parametrize(("before", "stall"), [("plain", 0.5), ("transposed", 0.0)])
def test_error_stops_after_the_older_commands(before: str, stall: float) -> None:
    bench = LoadBench(CONFIGS["b128"], stall=stall, seed=3)
    bench.memory.faults[16384 + BEAT] = 2
    older = [GOOD, {**GOOD, "transpose": int(before == "transposed")}]
    again = [{**GOOD, "transpose": 1}, {**GOOD, "addr": 2048}, {**GOOD, "unpack": 1}, {**GOOD, "transpose": 1, "unpack": 1}]
    unit = bench.dut.unit

    async def fail(ctx: Any, changes: Block, cause: ErrorCause, addr: int) -> None:
        state, done, reads = bench.scratchpad.copy(), len(bench.done), len(bench.memory.reads)
        await bench.send(ctx, [*older, {**GOOD, **changes}])
        ctx.set(unit.command.payload, MANY)
        ctx.set(unit.command.valid, 1)
        while not ctx.get(unit.error):
            await ctx.tick()
        ctx.set(unit.command.valid, 0)
        assert len(bench.done) == done + len(older)
        assert (ctx.get(unit.report.cause), ctx.get(unit.report.addr)) == (cause, addr)
        assert (4096 - 3 * BEAT, 1) not in bench.memory.reads[reads:]   # where the row after one beyond the end would lie
        issued = bench.issued(ctx)
        await bench.settle(ctx)
        assert bench.issued(ctx) == issued
        assert ctx.get(unit.error)
        check_states(bench, older, state, first=done)
        await bench.abort(ctx)
        state[:] = bench.scratchpad
        await bench.send(ctx, again)
        await bench.settle(ctx)
        check_states(bench, again, state, first=done + len(older))

    async def commands(ctx: Any) -> None:
        for case, (changes, cause, addr) in WRONG.items():
            try:
                await fail(ctx, changes, cause, addr)
            except BaseException as error:
                error.add_note(f"case {case}")
                raise

    bench.run(commands)
    assert len(bench.done) == len(WRONG) * (len(older) + len(again))


def place_fault(rng: random.Random, block: Block, beat: int, faults: dict[int, int]) -> tuple[ErrorCause, int]:
    """Make one beat of the block fail, on the bus or by lying beyond the address space; return what must be reported."""
    columns = ceil_div(block["row_bytes"], beat)
    offsets = [row * block["dram_stride"] + column * beat for row in range(block["rows"]) for column in range(columns)]
    if block["transpose"]:
        offsets.sort(key=lambda offset: offset % block["dram_stride"])      # the order of the bus: columns, from the top down
    bad = rng.choice(offsets)
    if bad == 0 or rng.random() < 0.5:
        faults[block["dram_addr"] + bad] = rng.choice((2, 3))
        return ErrorCause.BUS_READ, block["dram_addr"] + bad
    block["dram_addr"] = (1 << 32) - bad
    return ErrorCause.BAD_SIZE, next(offset for offset in offsets if offset >= bad) - bad


def faulty_sequence(rng: random.Random, beat: int) -> list[Block]:
    """Return small blocks, plain and transposed, many of a single beat or turned block; no two read the same beat."""
    blocks, addr = [], 0
    for place in range(rng.randint(1, 5)):
        rows = rng.choice((1, rng.randint(2, beat), beat, rng.randint(2, beat), rng.randint(beat + 1, 2 * beat)))
        beats = rng.choice((1, 1, 2))
        stride = beat * rng.randint(beats, beats + 2)
        blocks.append({
            "dram_addr": addr, "dram_stride": stride, "rows": rows,
            "row_bytes": beats * beat - rng.choice((0, rng.randrange(beat))), "addr": 1536 * place, "stride": 2 * beat,
            "transpose": int(rng.random() < 0.7), "unpack": int(rng.random() < 0.3)})
        addr += rows * stride
    return blocks


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("name", ["b64", "b128"])
def test_a_failing_beat_anywhere_is_the_one_reported(name: str, stall: float) -> None:
    config, rng = CONFIGS[name], random.Random(f"{name} {stall}")
    beat = config.beat_bytes
    bench = LoadBench(config, stall=stall, seed=9, latency=1)
    unit = bench.dut.unit
    seen: Counter[object] = Counter()

    async def commands(ctx: Any) -> None:
        for _ in range(80):
            blocks = faulty_sequence(rng, beat)
            faulty = rng.randrange(len(blocks))
            cause, addr = place_fault(rng, blocks[faulty], beat, bench.memory.faults)
            older, state, first = blocks[:faulty], bench.scratchpad.copy(), len(bench.states)
            for block in blocks:
                ctx.set(unit.command.payload, block)
                ctx.set(unit.command.valid, 1)
                ready = False
                while not (ready or ctx.get(unit.error)):
                    _, _, ready = await ctx.tick().sample(unit.command.ready)
                ctx.set(unit.command.valid, 0)
            await bench.settle(ctx)
            assert ctx.get(unit.error)
            assert (ErrorCause(ctx.get(unit.report.cause)), ctx.get(unit.report.addr)) == (cause, addr)
            check_states(bench, older, state, first)
            await bench.abort(ctx)
            bench.memory.faults.clear()
            turned = blocks[faulty]["transpose"]
            one = blocks[faulty]["rows"] <= beat and blocks[faulty]["row_bytes"] <= beat
            seen["one block behind a turned one", cause] += one and turned and bool(older) and older[-1]["transpose"]
            seen["turned" if turned else "plain", cause] += 1
            seen["unpacked", cause] += blocks[faulty]["unpack"]
            seen["not the last"] += faulty < len(blocks) - 1

    bench.run(commands)
    assert len(seen) == 9
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", ["b64", "b128"])
def test_abort_at_any_time(name: str, stall: float) -> None:
    rng = random.Random(f"{name} {stall}")
    bench = LoadBench(CONFIGS[name], stall=stall, seed=5)
    bus, unit = bench.dut.bus, bench.dut.unit
    seen: Counter[str] = Counter()

    async def commands(ctx: Any) -> None:
        for turn in range(30):
            for field, value in some_blocks(name, turn, 1)[0].items():
                ctx.set(unit.command.payload[field], value)
            ctx.set(unit.command.valid, 1)
            await ctx.tick().repeat(rng.randint(1, 60))
            ctx.set(unit.command.valid, rng.random() < 0.5)       # commands offered during the abort are not taken
            seen["address up"] += ctx.get(bus.arvalid) and not ctx.get(bus.arready)
            seen["in flight"] += ctx.get(unit.busy)
            taken = len(bench.accepted)
            await bench.abort(ctx)
            assert len(bench.accepted) <= taken + 1
            ctx.set(unit.command.valid, 0)
            await bench.settle(ctx)
            blocks, state, first = some_blocks(name, -turn, 2), bench.scratchpad.copy(), len(bench.states)
            if turn % 10 == 0:
                await bench.send(ctx, blocks)
                await bench.settle(ctx)
                check_states(bench, blocks, state, first)

    bench.run(commands)
    assert seen["in flight"] > 15
    assert seen["address up"] or not stall
