# amaranth: UnusedElaboratable=no
"""The engine that cuts activations at run time: rows, counters and cycles against the golden model and the law; errors, abort."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from hw.array.tasd import TasdEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import hss_command_cycles, hss_command_latency, hss_fetches
from hw.errors import ConfigError
from hw.isa import ErrorCause
from sw.engines.hss import HssTiming, hss_layout, pack_hss
from sw.golden.array.hss import result_rows, run_matrix
from sw.golden.array.tasd import block_terms, cut_to_pattern
from sw.golden.refusal import Refusal
from sw.golden.state import State
from tb.array.engine import command_of
from tb.array.hss import SMALL, HssBench
from tb.sim import put_one, simulate

PATTERNS = ("4:8", "2:4", "2:8", "1:4", "1:8")


def config_of(pattern: str, **more: Any) -> AcceleratorConfig:
    """Return a small config that cuts to a pattern; of 1:8 a step has twice the inputs, which need longer lines."""
    long = {"bus_width": 512, "scratchpad_bytes": 1 << 14} if pattern == "1:8" else {}
    fields = SMALL | {"rows": 8, "columns": 2} | long | more
    return AcceleratorConfig(engine="tasd", weight_formats=("int8",), activation_pattern=pattern, **fields)


def activations(rng: np.random.Generator, m: int, k: int) -> np.ndarray:
    """Return int8 of all kinds: dense, thin, with ties, all zero, −128."""
    kinds = (rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (m, k)) * (rng.random((m, k)) < 0.3),
             rng.integers(-2, 3, (m, k)), np.zeros((m, k)), np.full((m, k), -128))
    return np.choose(rng.integers(0, 5, (m, 1)), kinds).astype(np.int8)


def place(config: AcceleratorConfig, mode: int, m: int, n: int, k: int, rng: np.random.Generator, scratchpad: np.ndarray,
          start: int = 0, **others: int) -> tuple[dict[str, int], np.ndarray, int]:
    """Lay random operands into `scratchpad`; return command, product of what is kept, and the next free line."""
    line, slot = config.line_bytes, config.weight_slot_bytes
    stride = ceil_div(k, line) * line
    a, w = activations(rng, m, k), rng.integers(-127, 128, (n, k)).astype(np.int8)
    w[:, 0] = 127                                   # so that scales are 1
    for row in range(m):
        scratchpad[start + row * stride:][:k] = a[row].view(np.uint8)
    layout = hss_layout(config, mode, n, k)
    data, scale = pack_hss(config, layout, w.astype(np.float32))
    assert (scale == 1).all()
    at = start + m * stride
    scratchpad[at:at + data.size] = data
    assert at + data.size <= scratchpad.size
    keep, of = (int(part) for part in config.activation_pattern.split(":"))
    kept = np.zeros((m, k), np.int64)
    for row, first in np.ndindex(m, ceil_div(k, of)):
        block = np.pad(a[row, first * of:first * of + of], (0, max(0, first * of + of - k)))
        for where, value in block_terms(block, ((keep, of),))[0][0]:
            kept[row, first * of + where] = value
    product = (kept if mode else a.astype(np.int64)) @ w.T.astype(np.int64)
    command = command_of(m, n, k, 0, activation_addr=start, activation_stride=stride, weight_addr=at, weight_stride=slot,
                         weight_tile_stride=layout.group_stride, mode=mode, acc_tile_stride=m, **others)
    return command, product, ceil_div(at + data.size, line) * line


def rows_of(config: AcceleratorConfig, commands: list[dict[str, int]], scratchpad: np.ndarray) -> list[Any]:
    return [row for command in commands for row in result_rows(config, command, scratchpad)]


@pytest.mark.parametrize(("pattern", "stall", "one_port"), [*((pattern, 0.0, False) for pattern in PATTERNS), ("4:8", 0.4, False),
                                                            ("2:4", 0.0, True)])
def test_rows_and_counters(pattern: str, stall: float, one_port: bool) -> None:
    """Both modes in turn, ragged sizes, back to back: rows and counts of the golden model, and that is the product."""
    config = config_of(pattern)
    rng = np.random.default_rng(1)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    commands, free = [], 0
    for number, (m, n, k) in enumerate(((5, 3, 40), (1, 2, 70), (12, 1, 33), (2, 4, 9), (20, 2, 64), (3, 1, 1))):
        command, product, free = place(config, 1 - number % 2, m, n, k, rng, scratchpad, free, acc_addr=number)
        commands.append(command)
        state = State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad, rows=np.zeros(1, np.float32),
                      accumulator=np.zeros((64, 2), np.int64), counters={"macs": 0, "saturations": 0})
        run_matrix(state, command)
        found = np.concatenate([state.accumulator[number + j * m:number + j * m + m] for j in range(ceil_div(n, 2))], axis=1)
        assert (found[:, :n] == product).all()
        assert state.counters["macs"] == sum(live for *_, live in result_rows(config, command, scratchpad))
    commands.append(commands[0] | {"activation_addr": 7, "activation_stride": 45, "accumulate": 1})     # rows begin anywhere
    dut = TasdEngine(config)
    bench = HssBench(dut, scratchpad, stall=stall, one_port=one_port, seed=3)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=3)
    expected = rows_of(config, commands, scratchpad)
    assert [row[1:] for row in bench.rows] == [(row, accumulate, list(sums)) for row, accumulate, sums, _ in expected]
    assert [macs for macs, _ in bench.counted] == [live for *_, live in expected]
    assert {sum(counts) for counts in bench.counted} == {16}
    assert len(bench.done) == len(commands)
    assert (bench.stalls > 10) == (stall > 0 or one_port)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_cycles_of_the_law(pattern: str) -> None:
    """⌈N/C⌉ · ⌈K / (R·M/N)⌉ · max(tokens, R·M/N), whatever the values; a command alone; dense over cut is M/N."""
    config = config_of(pattern, scratchpad_bytes=1 << 15, accumulator_rows=256)
    keep, of = (int(part) for part in pattern.split(":"))
    granule = 8 * of // keep
    rng = np.random.default_rng(2)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    commands, sizes, free = [], [], 0
    for mode, m, n, k in ((1, granule + 3, 3, 2 * granule), (1, 5, 2, 2 * granule), (0, granule + 3, 3, 2 * granule)):
        command, _, free = place(config, mode, m, n, k, rng, scratchpad, free)
        commands += [command] * 3
        sizes.append((m, n, k, mode))
    dut = TasdEngine(config)
    bench = HssBench(dut, scratchpad)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    for index, (m, n, k, mode) in enumerate(sizes):
        step = granule if mode else 8
        law = ceil_div(n, 2) * ceil_div(k, step) * max(m, step)
        assert set(np.diff(bench.done[3 * index:3 * index + 3])) == {law} == {hss_command_cycles(config, m, n, k, mode)}
    cut, _, dense = (bench.done[3 * index + 1] - bench.done[3 * index] for index in range(3))
    assert dense * keep == cut * of
    assert bench.fetched == 3 * sum(hss_fetches(config, *size) for size in sizes)


def test_a_command_alone_and_prediction() -> None:
    config = dataclasses.replace(config_of("4:8"), scratchpad_bytes=1 << 15)
    rng = np.random.default_rng(4)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    sizes = [(9, 4, 40, 1), (1, 1, 1, 1), (15, 3, 27, 0), (1, 4, 96, 1)]
    commands, free = [], 0
    for m, n, k, mode in sizes:
        command, _, free = place(config, mode, m, n, k, rng, scratchpad, free)
        # Weights in another bank than activations.
        moved = scratchpad.size // 2
        scratchpad[moved:moved + free - command["weight_addr"]] = scratchpad[command["weight_addr"]:free]
        commands.append(command)
    dut = TasdEngine(config)
    bench = HssBench(dut, scratchpad)

    async def one_by_one(ctx: Any) -> None:
        for command in commands:
            await put_one(ctx, dut.unit.command, command)
            await bench.until_idle(ctx)

    simulate(dut, one_by_one, background=[bench.memory, bench.record])
    for (m, n, k, mode), command, taken, done in zip(sizes, commands, bench.taken, bench.done, strict=True):
        assert done - taken == hss_command_latency(config, m, n, k, mode), command
        timing = HssTiming(config)
        timing._same_bank = lambda *_, **__: False       # the bench has a port for each operand
        assert timing.command(taken, command) == done, command


@pytest.mark.parametrize(("change", "cause", "addr"), [
    ({"mode": 2}, ErrorCause.UNSUPPORTED, 2), ({"k": 0}, ErrorCause.BAD_SIZE, 0),
    ({"weight_addr": 1 << 13}, ErrorCause.SCRATCHPAD_RANGE, 1 << 13),
    ({"activation_addr": (1 << 13) - 3}, ErrorCause.SCRATCHPAD_RANGE, (1 << 13) - 3),
    ({"acc_addr": 63}, ErrorCause.ACCUMULATOR_RANGE, 64)])
def test_errors_are_precise_and_abort_clears_them(change: dict[str, int], cause: ErrorCause, addr: int) -> None:
    """What came before is done; golden model and engine say the same; after `abort`, in the middle too, the next one is right."""
    config = config_of("4:8")
    rng = np.random.default_rng(5)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    good, _, free = place(config, 1, 4, 3, 40, rng, scratchpad)
    other, *_ = place(config, 0, 3, 2, 16, rng, scratchpad, free)
    bad = good | change
    state = State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad, rows=np.zeros(1, np.float32),
                  accumulator=np.zeros((64, 2), np.int64), counters={"macs": 0, "saturations": 0})
    with pytest.raises(Refusal) as refused:
        run_matrix(state, bad)
    assert (refused.value.cause, refused.value.addr) == (cause, addr)
    dut = TasdEngine(config)
    bench = HssBench(dut, scratchpad)

    async def drive(ctx: Any) -> None:
        assert await bench.stopped(ctx, other, bad, held=3) == (cause, addr)
        for after in (9, 23, 30):
            await bench.aborted(ctx, good, after=after, settled=20)
            assert [row[1:] for row in bench.rows] == [(row, accumulate, list(sums)) for row, accumulate, sums, _ in rows_of(
                config, [good], scratchpad)]

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_cutting_is_the_decomposition_of_the_unit() -> None:
    rng = np.random.default_rng(6)
    x = activations(rng, 40, 32)
    for keep, of in ((1, 4), (2, 4), (1, 8), (2, 8), (4, 8)):
        cut = cut_to_pattern(x, keep, of)
        for row, first in np.ndindex(len(x), 32 // of):
            block = x[row, first * of:first * of + of]
            expected = np.zeros(of, np.int64)
            for where, value in block_terms(block, ((keep, of),))[0][0]:
                expected[where] = value
            assert (cut[row, first * of:first * of + of] == expected).all()


_NO_PATTERN = "AcceleratorConfig.activation_pattern must be one of 1:4, 2:4, 1:8, 2:8, 4:8, not "


@pytest.mark.parametrize(("fields", "text"), [
    ({"activation_pattern": "3:8"}, _NO_PATTERN + "'3:8'"),
    ({"activation_pattern": "4:4"}, _NO_PATTERN + "'4:4'"),
    ({"activation_pattern": "2:8+1:8"}, _NO_PATTERN + "'2:8+1:8'"),
    ({"activation_pattern": ""}, _NO_PATTERN + "''"),
    ({"activation_pattern": "04:8"}, _NO_PATTERN + "'04:8'"),
    ({"weight_formats": ("2:4",)},
     "AcceleratorConfig.weight_formats must be ('int8',) where activations are cut to a pattern, not ('2:4',)"),
    ({"engine": "systolic", "weight_formats": ()},
     "AcceleratorConfig.activation_pattern must be '' but for engine 'tasd', not '4:8'"),
    ({"engine": "hss"}, "AcceleratorConfig.activation_pattern must be '' but for engine 'tasd', not '4:8'"),
    ({"activation_pattern": "1:8"},
     ("AcceleratorConfig.bus_width must make lines of at least 64 bytes for structured sparsity (the inputs of a step), "
      "not of 32")),
])
def test_impossible_configs(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        dataclasses.replace(config_of("4:8"), **fields)
