# amaranth: UnusedElaboratable=no
"""The systolic engine: every result row in order against the golden model, exact cycle counts, precise errors, abort."""

import random
from itertools import pairwise

import numpy as np
import pytest

from hw import engines
from hw.array import ENGINES
from hw.array.operand import OperandFetch
from hw.array.sequencer import TileSequencer
from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines import matrix_command_cycles, matrix_command_latency
from hw.errors import ConfigError
from hw.isa import DESCRIPTORS, Dataflow, ErrorCause, Unit
from sw.golden.array.systolic import result_rows
from tb.array.engine import EngineBench, random_command
from tb.sim import put_one, simulate

SMALL = {"scratchpad_bytes": 1024, "scratchpad_banks": 4, "accumulator_rows": 32, "os_depth": 5, "bus_width": 64}
CONFIGS = {
    "4x4": AcceleratorConfig(**SMALL),
    "3x5": AcceleratorConfig(rows=3, columns=5, vector_lanes=5, **SMALL),
    "5x2-w4": AcceleratorConfig(rows=5, columns=2, vector_lanes=2, weight_format="int4", **SMALL),
    "2x4-ws": AcceleratorConfig(rows=2, dataflows=("ws",), **SMALL),
    "4x3-os-w4": AcceleratorConfig(columns=3, vector_lanes=3, dataflows=("os",), weight_format="int4", **SMALL),
    "1x1": AcceleratorConfig(rows=1, columns=1, vector_lanes=1, **SMALL),
}


def memory_image(config: AcceleratorConfig, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)


def compact(m: int, n: int, k: int, dataflow: Dataflow, **others: int) -> dict[str, int]:
    """Return a command of this size that reads slot 0 again and again and writes the rows from 0 on."""
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.MATRIX]), 0)
    return fields | {"m": m, "n": n, "k": k, "dataflow": int(dataflow)} | others


@pytest.mark.parametrize(("stall", "one_port"), [(0.0, False), (0.5, False), (0.0, True), (0.2, True)],
                         ids=["ideal", "stalls", "one-bank", "both"])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    """Back to back, with pauses, operands stalled or in one bank: the same rows in the same order, all counters right."""
    config, seed = CONFIGS[name], 7
    rng = random.Random(seed)
    commands = [random_command(config, rng) for _ in range(14)]
    scratchpad = memory_image(config, seed)
    dut = SystolicEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=seed)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=seed)

    expected = [row for command in commands for row in result_rows(config, command, scratchpad)]
    assert len(bench.rows) == len(expected)
    for got, want in zip(bench.rows, expected, strict=True):
        assert got[1:] == (want[0], want[1], list(want[2]))
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)
    assert bench.split == 0 or "os" in config.dataflows or stall or one_port
    if len(config.dataflows) == 2:
        kinds = [c["dataflow"] for c in commands]
        assert {(0, 1), (1, 0)} <= set(pairwise(kinds))


@pytest.mark.parametrize("dataflow", Dataflow)
def test_golden_model_multiplies(dataflow: Dataflow) -> None:
    """The rows of the golden model, added up, are A·B of matrices laid out as docs/frame.md says."""
    config = AcceleratorConfig(**SMALL)
    rng = np.random.default_rng(3)
    m, n, k = 7, 6, 11
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    left = a if dataflow == Dataflow.WS else a.T
    left = np.pad(left, ((0, 0), (0, -left.shape[1] % 4)), constant_values=99).astype(np.int8)
    right = np.pad(b, ((0, 0), (0, -n % 4)), constant_values=99).astype(np.int8)
    scratchpad = np.concatenate([left.ravel(), right.ravel()]).view(np.uint8)
    command = {"activation_addr": 0, "activation_stride": left.shape[1], "activation_tile_stride": 4,
               "weight_addr": left.size, "weight_stride": right.shape[1], "weight_tile_stride": 4,
               "acc_addr": 2, "acc_tile_stride": 10, "m": m, "n": n, "k": k, "dataflow": int(dataflow), "accumulate": 0}
    accumulator = np.full((32, 4), 1 << 20)
    for row, accumulate, psums in result_rows(config, command, scratchpad):
        accumulator[row] = psums + (accumulator[row] if accumulate else 0)
    product = np.concatenate([accumulator[2:2 + m], accumulator[12:12 + m]], axis=1)
    assert (product[:, :n] == a @ b).all()
    assert (product[:, n:] == 0).all()
    assert (accumulator[[0, 1, 9, 10, 11, 19]] == 1 << 20).all()


# m; n and k as whole groups of C and R, and what is left over (modulo C and R).
SIZES = [(1, (0, 1), (0, 1)), (4, (1, 0), (1, 0)), (9, (2, 2), (3, 0)), (3, (1, 1), (2, 3)), (1, (1, 0), (2, 1)),
         (7, (1, 1), (1, 2))]


def size_of(config: AcceleratorConfig, size: tuple) -> tuple[int, int, int]:
    """Return (m, n, k) of an entry of `SIZES`."""
    m, (n_groups, n_left), (k_groups, k_left) = size
    return m, max(1, n_groups * config.columns + n_left % config.columns), max(1, k_groups * config.rows + k_left % config.rows)


@pytest.mark.parametrize("serialize", [0, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_latency_of_a_command_alone(name: str, serialize: int) -> None:
    config = CONFIGS[name]
    dut = SystolicEngine(config)
    commands = [compact(*size_of(config, size), Dataflow[dataflow.upper()], serialize=serialize)
                for dataflow in config.dataflows for size in SIZES]
    bench = EngineBench(dut, memory_image(config, 0))

    async def one_by_one(ctx):
        for command in commands:
            await put_one(ctx, dut.unit.command, command)
            await bench.until_idle(ctx)

    simulate(dut, one_by_one, background=[bench.memory, bench.record])
    for command, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        size = (command["m"], command["n"], command["k"])
        assert done - taken == matrix_command_latency(config, *size, Dataflow(command["dataflow"]), bool(serialize)), command


@pytest.mark.parametrize("serialize", [0, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_cycles_of_commands_back_to_back(name: str, serialize: int) -> None:
    config, runs = CONFIGS[name], 3
    dut = SystolicEngine(config)
    bench = EngineBench(dut, memory_image(config, 0))
    cases = [(size_of(config, size), Dataflow[dataflow.upper()]) for dataflow in config.dataflows for size in SIZES]
    commands = [compact(*size, dataflow, serialize=serialize) for size, dataflow in cases for _ in range(runs)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    exact = 0
    for (size, dataflow), done in zip(cases, np.reshape(bench.done, (-1, runs)), strict=True):
        m, _, k = size
        cycles = matrix_command_cycles(config, *size, dataflow, bool(serialize))
        last_tile = max(m, (k - 1) % config.rows + 1) if dataflow == Dataflow.WS else max(
            (k - 1) % config.os_depth + 1, config.rows)
        intervals = set(np.diff(done))
        if last_tile >= engines.COMMAND_LATENCY or serialize:
            assert intervals == {cycles}, (size, dataflow)
            exact += 1
        else:
            assert max(intervals) <= cycles + engines.COMMAND_LATENCY - 1, (size, dataflow)
    assert exact >= len(cases) // 3


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if len(config.dataflows) == 2])
def test_switching_the_dataflow(name: str) -> None:
    """WS → OS costs nothing. OS → WS: preload after the last OS slot, while the sums drain."""
    config = CONFIGS[name]
    dut = SystolicEngine(config)
    bench = EngineBench(dut, memory_image(config, 0))
    m, n, k = 6, config.columns, 2 * config.rows
    commands = [compact(m, n, k, dataflow) for dataflow in (Dataflow.WS, Dataflow.OS, Dataflow.WS)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    slots = [2 * m, ceil_div(m, config.rows) * k, 2 * m]
    assert len(bench.active) == sum(slots)
    last_ws, first_os = bench.active[slots[0] - 1:slots[0] + 1]
    last_os, first_ws = bench.active[slots[0] + slots[1] - 1:slots[0] + slots[1] + 1]
    assert first_os - last_ws == 1
    assert first_ws - last_os == 1 + config.rows


def test_latency_constants_are_those_of_the_blocks() -> None:
    assert OperandFetch.latency == engines.OPERAND_LATENCY
    assert TileSequencer.latency + 1 == engines.COMMAND_LATENCY


@pytest.mark.parametrize(("rows", "columns", "m", "k", "n"), [(4, 4, 9, 12, 8), (3, 5, 1, 9, 5), (2, 4, 7, 2, 4)])
def test_without_overlap_the_engine_takes_the_folds_of_scale_sim(rows: int, columns: int, m: int, k: int, n: int) -> None:
    """⌈K/R⌉⌈N/C⌉ folds of M + 2R + C − 2 (WS, K a multiple of R), ⌈M/R⌉⌈N/C⌉ of K + R + C − 2 (OS), a constant per fold apart."""
    config = AcceleratorConfig(rows=rows, columns=columns, vector_lanes=columns, **(SMALL | {"os_depth": 16}))
    ws_folds, os_folds = ceil_div(k, rows) * ceil_div(n, columns), ceil_div(m, rows) * ceil_div(n, columns)
    ws_fold, os_fold = engines.scale_sim_ws_fold(rows, columns, m), engines.scale_sim_os_fold(rows, columns, k)
    assert matrix_command_cycles(config, m, n, k, Dataflow.WS, True) == ws_folds * (ws_fold + 1)
    assert matrix_command_cycles(config, m, n, k, Dataflow.OS, True) == os_folds * (os_fold + rows + 1)


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
    good = compact(5, 6, 9, Dataflow.OS if dataflow == Dataflow.WS else Dataflow.WS)
    bad = compact(4, 8, 6, dataflow) | change
    scratchpad = memory_image(config, 1)
    dut = SystolicEngine(config)
    bench = EngineBench(dut, scratchpad)
    unit = dut.unit

    async def drive(ctx):
        for command in (good, bad):
            await put_one(ctx, unit.command, command)
        ctx.set(unit.command.valid, 1)
        await ctx.tick().until(unit.error)
        assert ctx.get(unit.report.cause) == cause
        if addr is not None:
            assert ctx.get(unit.report.addr) == addr
        else:
            assert ctx.get(unit.report.addr) >= config.accumulator_rows
        assert len(bench.done) == 1
        for _ in range(40):
            assert ctx.get(unit.error)
            assert not ctx.get(unit.command.ready)
            await ctx.tick()
        assert len(bench.done) == 1
        ctx.set(unit.abort, 1)
        ctx.set(unit.command.valid, 0)
        await ctx.tick().repeat(2)
        assert not ctx.get(unit.busy)
        assert not ctx.get(unit.error)
        ctx.set(unit.abort, 0)
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
        await put_one(ctx, dut.unit.command, compact(1, 1, 1, dataflow))
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


def test_registry_and_bad_configs() -> None:
    assert ENGINES["systolic"] is SystolicEngine
    assert ENGINES.keys() == engines.ENGINES.keys()
    with pytest.raises(ConfigError, match=r"^PESpec\.kind must be one of mac, not 'cam'$"):
        SystolicEngine(AcceleratorConfig(pe="cam"))
