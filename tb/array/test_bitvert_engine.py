# amaranth: UnusedElaboratable=no
"""The BitVert engine: every row against the golden model, that against a plain product; cycles; bad commands and `abort`."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitvert_engine import BitvertEngine
from hw.config import AcceleratorConfig
from hw.engines.bitvert import BITVERT, bitvert_command_cycles, bitvert_formats
from hw.errors import ConfigError
from hw.formats import format_named
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.bitvert import matrix_weights, result_rows, run_matrix
from sw.golden.refusal import Refusal
from tb.array.bitvert import CONFIG, STRIPES, golden_state, random_command
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

WIDE = dataclasses.replace(CONFIG, bus_width=128, columns=8, vector_lanes=8, scratchpad_bytes=1 << 14)
"""Lines of 32 bytes: two chunks of activations, two slots of columns."""


def rows_of(config: AcceleratorConfig, commands: list[dict[str, int]],
            scratchpad: np.ndarray) -> list[tuple[int, int, list[int]]]:
    state = golden_state(config, scratchpad)
    return [(row, accumulate, sums.tolist()) for command in commands for row, accumulate, sums in result_rows(state, command)]


@pytest.mark.parametrize(("mode", "stall", "one_port", "config"), [
    (0, 0.0, False, CONFIG), (1, 0.0, False, CONFIG), (2, 0.0, True, CONFIG), (3, 0.4, False, CONFIG),
    (1, 0.0, False, STRIPES), (None, 0.2, False, STRIPES), (None, 0.0, False, CONFIG), (None, 0.3, True, CONFIG),
    (None, 0.0, False, WIDE), (None, 0.2, False, WIDE)])
def test_random_commands(mode, stall, one_port, config):
    """Back to back, with pauses, operands stalled or in one bank, modes in turn: the same rows, all counters right."""
    rng = random.Random(7)
    modes = [rng.randrange(len(config.weight_formats) + 1) for _ in range(8)] if mode is None else [mode] * 5
    commands = [random_command(config, rng, number, 100) for number in modes]
    scratchpad = memory_image(config, 7)
    dut = BitvertEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=7, lanes=16)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=7)
    expected = rows_of(config, commands, scratchpad)
    assert [row[1:] for row in bench.rows] == expected
    assert len(expected) > 10
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)


@pytest.mark.parametrize("mode", range(4))
def test_golden_model_at_once_and_by_rows(mode):
    """`run_matrix` leaves the accumulator as the rows do that the engine writes, saturated; runs side by side as one by one."""
    rng = random.Random(mode)
    config = dataclasses.replace(CONFIG, acc_width=17)
    scratchpad = memory_image(config, mode)
    for _ in range(6):
        command = random_command(config, rng, mode)
        state, by_rows = golden_state(config, scratchpad), golden_state(config, scratchpad)
        state.accumulator[:] = by_rows.accumulator[:] = np.arange(config.columns) * 20000 - 30000
        run_matrix(state, command)
        for row, accumulate, sums in result_rows(by_rows, command):
            by_rows.accumulator[row] = np.clip(sums + accumulate * by_rows.accumulator[row], -1 << 16, (1 << 16) - 1)
        np.testing.assert_array_equal(state.accumulator, by_rows.accumulator)
        assert state.counters["macs"] == command["m"] * command["n"] * command["k"]
        pair = dataclasses.replace(golden_state(config, np.stack([scratchpad, scratchpad[::-1].copy()])),
                                   accumulator=np.zeros((2, *state.accumulator.shape), np.int64))
        other = golden_state(config, scratchpad[::-1].copy())
        run_matrix(pair, command)
        run_matrix(other, command)
        np.testing.assert_array_equal(pair.accumulator[1], other.accumulator)


def test_golden_weights_are_read_as_the_layout_says():
    """A stream put together here, bit by bit, of weights that are known."""
    rng = np.random.default_rng(2)
    k, c = 80, CONFIG.columns
    low = rng.integers(-8, 8, (k, c))                                    # three redundant columns, five bits; constant 17 − 32
    low -= 4 * (low < 0)                                                 # −12 … 7
    stream = bytearray()
    for record in range(0, k, 64):
        stream += bytes([3 | 17 << 2] * c + [3 | 63 << 2] * c)
        for start in range(record, min(k, record + 64), 16):
            for place in (4, 3, 2, 1):                                   # four columns: the lowest place, 1, is not stored
                for channel in range(c):
                    bits = low[start:start + 16, channel] >> place & 1
                    stream += int((bits << np.arange(16)).sum()).to_bytes(2, "little")
    scratchpad = np.frombuffer(bytes(stream).ljust(CONFIG.scratchpad_bytes, b"\0"), np.uint8)
    found = matrix_weights(golden_state(CONFIG, scratchpad), command_of(1, c, k, Dataflow.WS, mode=3))
    constant = np.where(np.arange(k) // 32 % 2 == 0, 17, -1)
    np.testing.assert_array_equal(found[0], (low & ~1) - constant[:, None])


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize(("m", "n", "k"), [(4, 16, 64), (1, 8, 128), (3, 8, 64)])
def test_cycles(mode, m, n, k):
    """An unbroken run of commands takes what the formula says."""
    dut = BitvertEngine(WIDE)
    bench = EngineBench(dut, memory_image(WIDE, 1), lanes=16)
    command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=32, weight_stride=8)
    simulate(dut, bench.feed([command] * 4), background=[bench.memory, bench.record])
    assert set(np.diff(bench.done[1:])) == {bitvert_command_cycles(WIDE, m, n, k, mode)}


def test_cycles_of_stripes():
    """Twice the cycles of bit columns, since PEs have half the lanes; plain weights take what they take."""
    dut = BitvertEngine(STRIPES)
    bench = EngineBench(dut, memory_image(STRIPES, 1), lanes=16)

    async def drive(ctx: Any) -> None:
        for mode, cycles in ((1, 4 * 16), (0, 64)):
            bench.done.clear()
            command = command_of(2, 4, 64, Dataflow.WS, mode=mode, activation_stride=64, weight_stride=4)
            await bench.feed([command] * 4)(ctx)
            assert set(np.diff(bench.done[1:])) == {bitvert_command_cycles(STRIPES, 2, 4, 64, mode)} == {cycles + 2 - mode}

    simulate(dut, drive, background=[bench.memory, bench.record])


@pytest.mark.parametrize(("mode", "columns"), [(0, 16), (1, 8), (2, 6), (3, 4)])
def test_cycles_of_a_pass(mode, columns):
    """16 weights take 8, 6 or 4 cycles, and metadata one for each 64; plain ones 16, as their slots come."""
    dut = BitvertEngine(WIDE)
    bench = EngineBench(dut, memory_image(WIDE, 1), lanes=16)
    command = command_of(2, 8, 256, Dataflow.WS, mode=mode, activation_stride=32)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record])
    steps = np.diff(bench.active)
    assert len(bench.active) == 16
    expected = [columns + (mode > 1 and index % 4 == 3) for index in range(15)]
    assert steps.tolist() == expected


BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "n is zero": ({"n": 0}, ErrorCause.BAD_SIZE, 0),
    "k is zero": ({"k": 0}, ErrorCause.BAD_SIZE, 0),
    "output-stationary": ({"dataflow": 1}, ErrorCause.UNSUPPORTED, 1),
    "serialize": ({"serialize": 1}, ErrorCause.UNSUPPORTED, 1),
    "no such mode": ({"mode": 4}, ErrorCause.UNSUPPORTED, 4),
    "activation address": ({"activation_addr": 7}, ErrorCause.MISALIGNED, 7),
    "activation stride": ({"activation_stride": 5}, ErrorCause.MISALIGNED, 5),
    "weight address": ({"weight_addr": 4}, ErrorCause.MISALIGNED, 4),
    "weight tile stride": ({"weight_tile_stride": 12}, ErrorCause.MISALIGNED, 12),
    "plain weight address": ({"weight_addr": 6, "mode": 0}, ErrorCause.MISALIGNED, 6),
    "plain weight stride": ({"weight_stride": 2, "mode": 0}, ErrorCause.MISALIGNED, 2),
    "first rule wins": ({"weight_addr": 1, "activation_stride": 3, "m": 0}, ErrorCause.BAD_SIZE, 0),
    "first activation": ({"activation_addr": 8192}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "later activation": ({"activation_addr": 8160, "activation_stride": 16, "k": 16}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "end of a row": ({"activation_addr": 8176}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "metadata": ({"weight_addr": 8192}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "later column": ({"weight_addr": 8152}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "weight group": ({"weight_tile_stride": 8192}, ErrorCause.SCRATCHPAD_RANGE, 8192),
    "accumulator row": ({"acc_addr": 64}, ErrorCause.ACCUMULATOR_RANGE, None),
    "later accumulator row": ({"acc_addr": 62}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator group": ({"acc_tile_stride": 62}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator row past 16 bits": ({"acc_addr": 8, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE, None),
}


def test_errors_are_precise_and_abort_clears_them():
    """Good commands before a bad one are done and written, nothing later is taken, after `abort` the next one works."""
    good = command_of(1, 6, 20, Dataflow.WS, mode=2)
    scratchpad = memory_image(CONFIG, 1)
    dut = BitvertEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=16)
    unit = dut.unit

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in BAD.items():
            before = len(bench.done)
            bad = command_of(3, 8, 20, Dataflow.WS, mode=3) | change
            for command in (good, bad):
                await put_one(ctx, unit.command, command)
            ctx.set(unit.command.valid, 1)
            await ctx.tick().until(unit.error)
            assert ctx.get(unit.report.cause) == cause, case
            assert ctx.get(unit.report.addr) == addr if addr is not None else ctx.get(unit.report.addr) >= 64, case
            for _ in range(6):
                assert ctx.get(unit.error)
                assert not ctx.get(unit.command.ready)
                await ctx.tick()
            assert len(bench.done) == before + 1, case
            with pytest.raises(Refusal) as refused:
                run_matrix(golden_state(CONFIG, scratchpad), bad)
            assert refused.value.cause == cause, case
            ctx.set(unit.abort, 1)
            ctx.set(unit.command.valid, 0)
            await ctx.tick().repeat(2)
            assert not ctx.get(unit.busy)
            assert not ctx.get(unit.error)
            ctx.set(unit.abort, 0)
            bench.rows.clear()
            await put_one(ctx, unit.command, good)
            await bench.until_idle(ctx)
            assert [row[1:] for row in bench.rows] == rows_of(CONFIG, [good], scratchpad), case

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_abort_in_the_middle():
    """At any cycle of a command: no row, no `done` afterwards, and the next command is right."""
    commands = [command_of(3, 6, 40, Dataflow.WS, mode=mode, weight_stride=4) for mode in (3, 0)]
    scratchpad = memory_image(CONFIG, 2)
    dut = BitvertEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=16)

    async def drive(ctx: Any) -> None:
        for wait in (1, 4, 9, 17, 33, 58):
            for command in commands:
                await bench.aborted(ctx, command, after=wait, settled=20)
                assert [row[1:] for row in bench.rows] == rows_of(CONFIG, [command], scratchpad)

    simulate(dut, drive, background=[bench.memory, bench.record])


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 3}, r"AcceleratorConfig\.rows must be a power of two for BitVert \(nearest: 4\), not 3"),
    ({"columns": 6, "vector_lanes": 6}, r"AcceleratorConfig\.columns must be a power of two for BitVert \(nearest: 8\), not 6"),
    ({"dataflows": ("ws", "os")},
     r"AcceleratorConfig\.dataflows must be \('ws',\) for BitVert, whose operands lie so, not \('ws', 'os'\)"),
    ({"weight_format": "int4"},
     r"AcceleratorConfig\.weight_format must be 'int8' for BitVert \(others are weight_formats\), not 'int4'"),
    ({"protection": (("engine.mesh", "abft"),)},
     r"AcceleratorConfig\.protection must ask 'none' of engine\.mesh for BitVert, which has no mesh, not 'abft'"),
    ({"os_depth": 100}, r"AcceleratorConfig\.os_depth must be a multiple of 64 for BitVert, not 100"),
    ({"vector_lanes": 1}, (r"AcceleratorConfig\.bus_width must make lines of at least 16 bytes for BitVert \(16 activations, "
                           r"and 2 bytes for each column\), not of 8")),
    ({"bus_width": 128}, r"AcceleratorConfig\.bus_width must be at most 64 for BitVert with 4 columns, not 128"),
    ({"weight_formats": ("int6",)}, (r"AcceleratorConfig\.weight_formats must be int8 or bit columns \(bbs-average-g32, "
                                     r"bbs-shift-g32\) for BitVert, not 'int6'")),
    ({"weight_formats": ("bbs-shift-g16",)},
     r"AcceleratorConfig\.weight_formats must have groups of 32 for BitVert, not 'bbs-shift-g16'"),
])
def test_configs_that_cannot_be_built(fields, text):
    with pytest.raises(ConfigError, match=rf"^{text}$"):
        dataclasses.replace(CONFIG, **fields)


def test_means_of_six_columns_do_not_fit_a_constant(monkeypatch):
    monkeypatch.setattr("hw.engines.bitvert.format_named", lambda name: dataclasses.replace(
        format_named("bbs-average-g32"), pruned=6))
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.weight_formats must average 5 columns at most for BitVert, not 6 "
                                          r"\('int8'\)$"):
        bitvert_formats(CONFIG)


def test_stripes_knows_no_metadata():
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.weight_formats must be \('int8',\) or none for Stripes, not "
                                          r"\('bbs-shift-g32',\)$"):
        dataclasses.replace(STRIPES, weight_formats=("bbs-shift-g32",))


def test_what_the_frame_knows():
    assert CONFIG.psum_width == 22
    assert BITVERT.peak_macs(CONFIG) == 16 * 8 // 4
    assert BITVERT.peak_macs(dataclasses.replace(CONFIG, weight_formats=())) == 16 * 8 // 8
