# amaranth: UnusedElaboratable=no
"""Channels of which one of P keeps its columns: lanes' rows against the golden model, and that against a product."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitvert_engine import BitvertEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitvert import bitvert_command_cycles, bitvert_formats
from hw.errors import ConfigError
from hw.formats import format_named
from hw.isa import Dataflow, ErrorCause
from sw.engines.bitvert import BITVERT, BitvertTiming, split_order
from sw.formats import FormatError, dequantize, quantize
from sw.golden.array.bitvert import lane_groups, result_rows, run_matrix
from sw.golden.refusal import Refusal
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.linear_shape import make_linear
from tb.array.bitvert import CONFIG, golden_state, random_command
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

SPLIT = dataclasses.replace(CONFIG, weight_formats=("bbs-shift-g32-1of4", "bbs-average-g32-1of8", "bbs-shift-g32"),
                            scratchpad_bytes=1 << 14)


def split_command(config: AcceleratorConfig, rng: random.Random, mode: int, k_most: int = 100) -> dict[str, int]:
    """Return a command of up to two streams and a bit, whose rows lie inside the accumulator."""
    shared = bitvert_formats(config)[mode - 1].one_of if mode else 1
    fields = random_command(config, rng, 0, k_most) | {"mode": mode}
    n = rng.randint(1, min(2 * shared + 1, 12) * config.columns)
    groups, spans = ceil_div(n, config.columns), ceil_div(n, config.columns * shared)
    slots = bitvert_formats(config)[mode - 1].slots if mode else 0
    size = 2 * config.columns * slots * ceil_div(fields["k"], 64) if mode else fields["k"] * 8
    stride = rng.randint(0, (config.accumulator_rows - fields["m"]) // max(1, groups - 1))
    return fields | {
        "n": n, "weight_addr": rng.randint(0, (config.scratchpad_bytes // 2 - size) // 8) * 8, "weight_stride": 8,
        "weight_tile_stride": rng.randint(0, (config.scratchpad_bytes // 2) // 8 // max(1, spans)) * 8,
        "acc_tile_stride": stride, "acc_addr": rng.randint(0, config.accumulator_rows - fields["m"] - (groups - 1) * stride)}


def lanes_of(config: AcceleratorConfig, commands: list[dict[str, int]], scratchpad: np.ndarray) -> list[Any]:
    """Return each row that is written: accumulator rows of its lanes, accumulate, sums."""
    state, found = golden_state(config, scratchpad), []
    for command in commands:
        groups = ceil_div(command["n"], config.columns)
        split = command["mode"] and bitvert_formats(config)[command["mode"] - 1].one_of > 1
        places = lane_groups(state, command) if split else np.arange(groups)[:, None].repeat(config.columns, axis=1)
        rows = list(result_rows(state, command))
        per_group = len(rows) // groups
        for index, (row, accumulate, sums) in enumerate(rows):
            group = index // per_group
            lanes = row + (places[group] - group) * command["acc_tile_stride"]
            found.append(((lanes % config.accumulator_rows).tolist(), accumulate, sums.tolist()))
    return found


async def record_lanes(ctx: Any, dut: BitvertEngine, found: list[Any]) -> None:
    """Record the rows of lanes that leave the engine."""
    columns, rows = dut.config.columns, dut.config.accumulator_rows
    watched = dut.acc.valid, dut.acc.addr, dut.acc.offset, dut.acc.accumulate, dut.acc.data
    async for _, _, valid, addr, offset, accumulate, sums in ctx.tick().sample(*watched):
        if valid:
            found.append(([(addr + offset[c]) % rows for c in range(columns)], accumulate, [sums[c] for c in range(columns)]))


@pytest.mark.parametrize(("mode", "stall", "one_port"), [(1, 0.0, False), (2, 0.3, False), (None, 0.0, True), (None, 0.2, False)])
def test_random_commands(mode, stall, one_port):
    """Back to back, stalled, split modes and others in turn: every lane's row and sum."""
    rng = random.Random(11)
    modes = [rng.randrange(4) for _ in range(10)] if mode is None else [mode] * 4
    commands = [split_command(SPLIT, rng, number) for number in modes]
    scratchpad = memory_image(SPLIT, 5)
    dut = BitvertEngine(SPLIT)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=7, lanes=16)
    found: list[Any] = []

    async def record(ctx: Any) -> None:
        await record_lanes(ctx, dut, found)

    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record, record], seed=7)
    expected = lanes_of(SPLIT, commands, scratchpad)
    assert found == expected
    assert any(len(set(lanes)) > 1 for lanes, _, _ in found)
    assert len(bench.done) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)


def test_short_commands_keep_their_choices_apart():
    """One tile a command, as short as can be, each with its own choice, while results of the last ones are on their way."""
    scratchpad = memory_image(SPLIT, 9)
    commands = [command_of(5, 4, 3, Dataflow.WS, mode=1, weight_addr=8 * 100 * index, acc_tile_stride=5, activation_stride=16)
                for index in range(12)]
    dut = BitvertEngine(SPLIT)
    bench = EngineBench(dut, scratchpad, lanes=16)
    found: list[Any] = []

    async def record(ctx: Any) -> None:
        await record_lanes(ctx, dut, found)

    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record, record])
    assert found == lanes_of(SPLIT, commands, scratchpad)


def test_golden_model_side_by_side():
    """Runs side by side, which choose differently, as one by one; lanes saturate, and a row is counted once."""
    rng = random.Random(3)
    config = dataclasses.replace(SPLIT, acc_width=17)
    one = memory_image(config, 1)
    other = one[::-1].copy()
    for mode in (1, 2):
        command = split_command(config, rng, mode) | {"accumulate": 1}
        pair = dataclasses.replace(golden_state(config, np.stack([one, other])),
                                   accumulator=np.full((2, config.accumulator_rows, config.columns), 60000, np.int64))
        run_matrix(pair, command)
        for index, pad in enumerate((one, other)):
            state = golden_state(config, pad)
            state.accumulator[:] = 60000
            run_matrix(state, command)
            np.testing.assert_array_equal(pair.accumulator[index], state.accumulator)
            by_rows = np.full_like(state.accumulator, 60000)
            clipped = 0
            for lanes, accumulate, sums in lanes_of(config, [command], pad):
                total = by_rows[lanes, range(config.columns)] * accumulate + sums
                by_rows[lanes, range(config.columns)] = np.clip(total, -1 << 16, (1 << 16) - 1)
                clipped += (by_rows[lanes, range(config.columns)] != total).any()
            np.testing.assert_array_equal(by_rows, state.accumulator)
            assert state.counters["saturations"] == clipped > 0


@pytest.mark.parametrize(("m", "n", "k"), [(3, 32, 96), (2, 37, 64), (1, 5, 130), (4, 20, 64)])
@pytest.mark.parametrize(("mode", "shared"), [(1, 4), (2, 8)])
def test_packed_product(m, n, k, mode, shared):
    """Results in the channels' own order: those of the largest scales in int8, the others in the pruned format."""
    rng = np.random.default_rng(n)
    a = rng.integers(-128, 128, (m, k)).astype(np.int8)
    matrix = (rng.normal(size=(n, k)) * rng.uniform(0.1, 3, (n, 1))).astype(np.float32)
    layout = BITVERT.layout(SPLIT, mode, n, k)
    packed, scale = BITVERT.pack(SPLIT, layout, matrix)
    assert packed.shape == (layout.size,)
    left = np.pad(a, ((0, 0), (0, -k % 16))).view(np.uint8)
    used = np.concatenate([left.ravel(), packed])
    config = dataclasses.replace(SPLIT, scratchpad_bytes=1 << 16)
    state = golden_state(config, np.pad(used, (0, config.scratchpad_bytes - used.size)))
    run_matrix(state, command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=left.shape[1], weight_addr=left.size,
                                 weight_stride=layout.weight_stride, weight_tile_stride=layout.group_stride, acc_tile_stride=m))
    groups = ceil_div(n, config.columns)
    found = np.concatenate([state.accumulator[j * m:j * m + m] for j in range(groups)], axis=1)
    padded = np.pad(matrix, ((0, 0), (0, -k % 64)))
    name = SPLIT.weight_formats[mode - 1]
    expected = dequantize(quantize(padded, name.rsplit("-", 1)[0]))
    whole = dequantize(quantize(padded, "int8"))
    sizes = np.abs(matrix).max(axis=1)
    for first in range(0, n, shared * 4):
        for lane in range(first, min(first + 4, n)):
            candidates = np.arange(lane, min(first + shared * 4, n), 4)
            kept = candidates[sizes[candidates].argmax()]
            expected[kept] = whole[kept]
    np.testing.assert_allclose(found[:, :n] * scale, a.astype(np.float64) @ expected[:, :k].T.astype(np.float64), rtol=1e-5,
                               atol=1e-3)
    assert (found[:, n:] == 0).all()


def test_order():
    """The largest of each lane first, the others as they were; lanes without a channel have the first place."""
    order = split_order(np.array([1, 5, 3, 2, 2, 9, 1]), 2, 4)
    assert order.tolist() == [[[2, 5], [0, 1], [4, 3], [6, 7]]]


@pytest.mark.parametrize(("mode", "bits"), [(1, 84 * 16 / 256), (2, 208 * 16 / 512)])
def test_bits_of_a_weight(mode, bits):
    layout = BITVERT.layout(SPLIT, mode, 64, 640)
    assert layout.size == 64 * 640 * bits / 8
    assert layout.columns == SPLIT.columns * (4, 8)[mode - 1]


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize(("m", "n", "k"), [(2, 32, 64), (3, 16, 128)])
def test_cycles(mode, m, n, k):
    """The formula and the prediction: eight columns for the first group of a stream, six or four for the others."""
    dut = BitvertEngine(SPLIT)
    bench = EngineBench(dut, memory_image(SPLIT, 1), lanes=16)
    command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=16, weight_addr=1 << 13, acc_tile_stride=3)
    simulate(dut, bench.feed([command] * 4), background=[bench.memory, bench.record])
    assert set(np.diff(bench.done[1:])) == {bitvert_command_cycles(SPLIT, m, n, k, mode, 16)}
    timing = BitvertTiming(SPLIT)
    assert bench.done == [timing.command(at, command) for at in bench.taken]


BAD = {
    "kept channels": ({"weight_addr": (1 << 14) - 16}, ErrorCause.SCRATCHPAD_RANGE),
    "the others' record": ({"weight_addr": (1 << 14) - 33 * 8}, ErrorCause.SCRATCHPAD_RANGE),
    "next stream": ({"weight_tile_stride": 1 << 14, "n": 20}, ErrorCause.SCRATCHPAD_RANGE),
    "accumulator row": ({"acc_tile_stride": 30}, ErrorCause.ACCUMULATOR_RANGE),
}


def test_errors():
    """What lies outside is refused by both, and the next command is right."""
    scratchpad = memory_image(SPLIT, 1)
    good = command_of(2, 16, 40, Dataflow.WS, mode=1, acc_tile_stride=2, activation_stride=48)
    dut = BitvertEngine(SPLIT)
    bench = EngineBench(dut, scratchpad, lanes=16)
    found: list[Any] = []

    async def record(ctx: Any) -> None:
        await record_lanes(ctx, dut, found)

    async def drive(ctx: Any) -> None:
        for case, (change, cause) in BAD.items():
            bad = good | change
            await put_one(ctx, dut.unit.command, bad)
            await ctx.tick().until(dut.unit.error)
            assert ctx.get(dut.unit.report.cause) == cause, case
            with pytest.raises(Refusal) as refused:
                run_matrix(golden_state(SPLIT, scratchpad), bad)
            assert refused.value.cause == cause, case
            ctx.set(dut.unit.abort, 1)
            await ctx.tick().repeat(2)
            ctx.set(dut.unit.abort, 0)
            found.clear()
            await put_one(ctx, dut.unit.command, good)
            await bench.until_idle(ctx)
            assert found == lanes_of(SPLIT, [good], scratchpad), case

    simulate(dut, drive, background=[bench.memory, bench.record, record])


def test_formats_that_are_refused():
    with pytest.raises(ConfigError, match=r"^int4 takes no options in its name, not '1of4' \('int4-1of4'\)$"):
        dataclasses.replace(CONFIG, weight_formats=("int4-1of4",))
    with pytest.raises(FormatError, match=r"^a format that splits channels must be packed by its engine, not quantized alone: "
                                          r"'bbs-shift-g32-1of4'$"):
        quantize(np.ones((4, 32), np.float32), "bbs-shift-g32-1of4")
    with pytest.raises(ConfigError, match=r"^ColumnFormat\.one_of must be 1, 2, 4 or 8, not 3$"):
        dataclasses.replace(format_named("bbs-shift-g32"), one_of=3)


def test_a_linear_whose_streams_do_not_fit_the_accumulator():
    """Two of 32 rows, one at work and one that is read: 8 groups of C outputs leave 4 rows."""
    with pytest.raises(AreaError, match=r"^rows of a linear must be at most 4 \(outputs that share a stream in half the "
                                          r"accumulator\), not 5$"):
        make_linear(SPLIT, "up", 5, 128, 64, weights="bbs-average-g32-1of8")
    linear = make_linear(SPLIT, "up", 4, 128, 64, weights="bbs-average-g32-1of8")
    assert linear.tile_n == 32
