# amaranth: UnusedElaboratable=no
"""The BitMoD engine: every row against the golden model, that against a plain product; cycles; bad commands and `abort`."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitmod_array import BitmodArray
from hw.array.bitmod_engine import BitmodEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import bitmod_block_bytes, bitmod_command_cycles, bitmod_modes
from hw.errors import ConfigError
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.bitmod import check_bitmod, result_rows
from sw.golden.pe.bitmod import PRECISIONS, weight_value
from sw.golden.refusal import Refusal
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

R, C = 4, 2
SMALL = {"engine": "bitmod", "dataflows": ("ws",), "bus_width": 128, "vector_lanes": 2, "scratchpad_bytes": 2048, "scratchpad_banks": 4,
         "accumulator_rows": 32}
FORMATS = ("bitmod4-g16", "bitmod3-g32", "int6-g16-int8", "int8-g32-int8", "int5-g16-int8", "int4-g16-int8", "int3-g16-int8")
CONFIG = AcceleratorConfig(rows=R, columns=C, weight_formats=FORMATS, **SMALL)
MODES = bitmod_modes(CONFIG)
PIECE = 2 * C


def pieces_of(mode: int, k: int) -> int:
    """Return the pieces (mode 0: slots) of K in a tile's weights."""
    if mode == 0:
        return k
    info = MODES[mode]
    inside = range(0, k, 4)
    high, low = (4 // width if width else 0 for width in (info.high, info.low))
    group = info.group // 4
    return ceil_div(k, info.group) + sum(1 for step in range(len(inside)) for each in (high, low)
                                         if each and step % group % each == 0)


def random_command(mode: int, rng: random.Random) -> dict[str, int]:
    """Return a command whose operands and rows lie inside the memories; strides may be 0."""
    m, n, k = (1 if rng.random() < 0.2 else rng.randint(1, largest) for largest in (2 * R + 1, 2 * C + 1, 2 * MODES[0].group + 7))
    fields = command_of(m, n, k, Dataflow.WS, accumulate=rng.randrange(2), mode=mode)
    groups = ceil_div(n, C)
    for operand, slot, count, tiles, size in (("activation", R, m, 1, k), ("weight", PIECE if mode else C, pieces_of(mode, k), groups, 1)):
        room = (CONFIG.scratchpad_bytes - size) // slot
        stride = rng.choice([0, 1, 1, rng.randint(0, max(0, room // 2 // max(1, count - 1)))])
        stride = min(stride, room // 2 // max(1, count - 1))
        tile_stride = rng.randint(0, room // 2 // max(1, tiles - 1))
        spare = room - stride * (count - 1) - tile_stride * (tiles - 1)
        fields |= {f"{operand}_addr": rng.randint(0, spare) * slot, f"{operand}_stride": stride * slot,
                   f"{operand}_tile_stride": tile_stride * slot}
    tile_stride = rng.randint(0, (CONFIG.accumulator_rows - m) // max(1, groups - 1))
    return fields | {"acc_tile_stride": tile_stride,
                     "acc_addr": rng.randint(0, CONFIG.accumulator_rows - m - (groups - 1) * tile_stride)}


def rows_of(command: dict[str, int], scratchpad: np.ndarray) -> list[tuple[int, int, list[int]]]:
    return [(row, accumulate, list(products)) for row, accumulate, products in result_rows(CONFIG, command, scratchpad)]


@pytest.mark.parametrize(("stall", "one_port", "seed"), [(0.0, False, 1), (0.5, False, 2), (0.2, True, 3), (0.0, True, 4)])
def test_random_commands(stall: float, one_port: bool, seed: int) -> None:
    """All modes mixed, back to back, with pauses, operands stalled or in one bank: the same rows in the same order."""
    rng = random.Random(seed)
    order = [*range(len(MODES))]
    rng.shuffle(order)
    commands = [random_command(mode, rng) for mode in order]
    scratchpad = memory_image(CONFIG, seed)
    for command in commands:
        check_bitmod(CONFIG, command)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=seed, lanes=4)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=seed)
    expected = [row for command in commands for row in rows_of(command, scratchpad)]
    assert [row[1:] for row in bench.rows] == expected
    assert len(expected) > 40
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_golden_model_multiplies(mode: int) -> None:
    """The rows of the golden model, added up, are A · (scale · W) of matrices laid out as the engine says."""
    info = MODES[mode]
    rng = np.random.default_rng(3)
    m, n, k = R + 1, 2 * C - 1, info.group + 22
    bits = PRECISIONS[info.precision].element.bits
    a, codes = rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(0, 1 << bits, (k, 2 * C))
    groups = ceil_div(k, info.group) if mode else 1
    scales, special = rng.integers(0, 256, (groups, 2 * C)), rng.integers(0, 4, (groups, 2 * C))
    if mode == 0:
        scales, special = np.ones_like(scales), np.zeros_like(special)
    streams = [_stream(mode, codes[:, j * C:j * C + C], scales[:, j * C:j * C + C], special[:, j * C:j * C + C]) for j in range(2)]
    left = np.pad(a, ((0, 0), (0, -k % R))).view(np.uint8)
    used = np.concatenate([left.ravel(), *streams])
    scratchpad = np.pad(used, (0, CONFIG.scratchpad_bytes - used.size))
    command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=left.shape[1], weight_addr=left.size,
                         weight_stride=PIECE if mode else C, weight_tile_stride=streams[0].size, acc_addr=2, acc_tile_stride=10)
    check_bitmod(CONFIG, command)
    accumulator = np.full((32, C), 1 << 20)
    for row, accumulate, products in rows_of(command, scratchpad):
        accumulator[row] = np.array(products) + (accumulator[row] if accumulate else 0)
    weights = np.array([[weight_value(info.precision, int(codes[row, column]), info.specials[special[row // info.group % groups, column]])
                         * scales[row // info.group % groups, column] for column in range(n)] for row in range(k)])
    found = np.concatenate([accumulator[2:2 + m], accumulator[12:12 + m]], axis=1)
    assert (found[:, :n] == a.astype(int) @ weights * (2 if info.is_float else 1)).all()
    assert (found[:, n:] == 0).all()
    assert (accumulator[[0, 1, 2 + m, 11, 12 + m]] == 1 << 20).all()


def _stream(mode: int, codes: np.ndarray, scales: np.ndarray, special: np.ndarray) -> np.ndarray:
    """Return (k, C) codes as the engine reads them, written down bit by bit; records of groups, the last one a whole one."""
    if mode == 0:
        return codes.astype(np.uint8).ravel()
    info, found = MODES[mode], []
    for group, start in enumerate(range(0, len(codes), info.group)):
        found += [byte for c in range(C) for byte in (int(scales[group, c]), int(special[group, c]))]
        part = np.zeros((info.group, C), int)
        part[:len(codes[start:start + info.group])] = codes[start:start + info.group]
        for step in range(info.group // 4):
            for first, width in ((info.low, info.high), (0, info.low)):
                if width and step % (4 // width) == 0:
                    word = 0
                    fields = part[4 * step:4 * step + 16 // width].ravel()      # k by k, column by column
                    for index, code in enumerate(fields):
                        word |= (int(code) >> first & (1 << width) - 1) << index * width
                    found += word.to_bytes(PIECE, "little")
    return np.array(found, np.uint8)


CYCLES = [(mode, shape) for mode in (0, 1, 2, 3) for shape in ((R, C, 2), (2 * R, 2 * C, 1), (1, C, 1), (1, 2 * C, 3), (2 * R + 1, C, 1.25))]


def test_cycles() -> None:
    """A command alone, and in an unbroken run: the formulas of the engine and of `hw.engines`."""
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)

    async def drive(ctx: Any) -> None:
        for mode, (m, n, groups) in CYCLES:
            k = int(groups * MODES[mode].group)
            bench.taken.clear()
            bench.done.clear()
            command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=64)
            await bench.feed([command])(ctx)
            await bench.feed([command] * 4)(ctx)
            assert bench.done[0] - bench.taken[0] == _alone(m, n, k, mode), (mode, m, n, k)
            assert set(np.diff(bench.done[2:])) == {bitmod_command_cycles(CONFIG, m, n, k, mode)}, (mode, m, n, k)

    simulate(dut, drive, background=[bench.memory, bench.record])


def _alone(m: int, n: int, k: int, mode: int) -> int:
    """Return the cycles of one command: its first rows or pieces, all groups (the first need not last R + 8), its last rows."""
    info = MODES[mode]
    first = max(min(m, R) + 4, (4 if mode == 0 else 2 + (info.high > 0)) + 5)
    groups = [ceil_div(min(info.group, k - start), 4) * info.terms for start in range(0, k, info.group)] * ceil_div(m, R) * ceil_div(n, C)
    return first + groups[0] + sum(max(group, R + 8) for group in groups[1:]) + BitmodArray.latency + (m - 1) % R + 1


def test_a_row_is_fetched_for_each_valid_row_only() -> None:
    """One row of activations: a line read for each block of it, and none for rows that there are not."""
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)
    lines: list[int] = []

    async def watch(ctx: Any) -> None:
        port = dut.activation
        async for _, _, valid, ready, addr in ctx.tick().sample(port.valid, port.ready, port.addr):
            if valid and ready:
                lines.append(addr)

    command = command_of(1, C, 64, Dataflow.WS, mode=1, activation_addr=32, activation_stride=64)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record, watch])
    assert lines == [line for line in (2, 3, 4, 5) for _ in range(CONFIG.line_bytes // bitmod_block_bytes(CONFIG))]


END = CONFIG.scratchpad_bytes
BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "n is zero": ({"n": 0}, ErrorCause.BAD_SIZE, 0),
    "k is zero": ({"k": 0}, ErrorCause.BAD_SIZE, 0),
    "output-stationary": ({"dataflow": 1}, ErrorCause.UNSUPPORTED, 1),
    "serialize": ({"serialize": 1}, ErrorCause.UNSUPPORTED, 1),
    "mode": ({"mode": len(MODES)}, ErrorCause.UNSUPPORTED, len(MODES)),
    "activation address": ({"activation_addr": 2}, ErrorCause.MISALIGNED, 2),
    "activation stride": ({"activation_stride": 2}, ErrorCause.MISALIGNED, 2),
    "activation tile stride": ({"activation_tile_stride": 1}, ErrorCause.MISALIGNED, 1),
    "weight address": ({"weight_addr": END - 2}, ErrorCause.MISALIGNED, END - 2),
    "weight stride": ({"weight_stride": 2}, ErrorCause.MISALIGNED, 2),
    "weight tile stride": ({"weight_tile_stride": 6}, ErrorCause.MISALIGNED, 6),
    "plain weight address": ({"mode": 0, "weight_addr": END - 1}, ErrorCause.MISALIGNED, END - 1),
    "first rule wins": ({"weight_addr": 1, "activation_stride": 3, "m": 0}, ErrorCause.BAD_SIZE, 0),
    "first activation": ({"activation_addr": END}, ErrorCause.SCRATCHPAD_RANGE, END),
    "later row": ({"activation_addr": END - 64, "activation_stride": 32}, ErrorCause.SCRATCHPAD_RANGE, END),
    "later row, block by block": ({"activation_addr": END - 64, "activation_stride": 16}, ErrorCause.SCRATCHPAD_RANGE, END),
    "end of a row": ({"activation_addr": END - 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "group of rows": ({"m": 9, "activation_stride": END // 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "address past 24 bits": ({"activation_addr": 64, "activation_stride": (1 << 24) - 64}, ErrorCause.SCRATCHPAD_RANGE, 1 << 24),
    "header": ({"weight_addr": END}, ErrorCause.SCRATCHPAD_RANGE, END),
    "later piece": ({"weight_stride": END // 2}, ErrorCause.SCRATCHPAD_RANGE, END),
    "later plain slot": ({"mode": 0, "weight_addr": END - 64}, ErrorCause.SCRATCHPAD_RANGE, END),
    "weight group": ({"weight_tile_stride": END}, ErrorCause.SCRATCHPAD_RANGE, END),
    "weight before activation": ({"activation_addr": END - 16, "weight_addr": END - 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "accumulator row": ({"acc_addr": 32}, ErrorCause.ACCUMULATOR_RANGE, 35),
    "later accumulator row": ({"acc_addr": 29}, ErrorCause.ACCUMULATOR_RANGE, 32),
    "accumulator group": ({"acc_tile_stride": 32}, ErrorCause.ACCUMULATOR_RANGE, 35),
    "accumulator row past 16 bits": ({"acc_addr": 28, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE, 65566),
    "accumulator before weights": ({"acc_addr": 32, "weight_addr": END}, ErrorCause.ACCUMULATOR_RANGE, 35),
}


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_errors_are_precise_and_abort_clears_them(stall: float) -> None:
    """Good commands before a bad one are done and written, nothing later is taken, and after `abort` the next one works.

    The golden model refuses the same command for the same reason, and names the same address.
    """
    good = command_of(3, 6, 20, Dataflow.WS, mode=2, weight_stride=PIECE, activation_stride=20)
    scratchpad = memory_image(CONFIG, 1)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=4, stall=stall)
    unit = dut.unit

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in BAD.items():
            before = len(bench.done)
            bad = command_of(4, 8, 40, Dataflow.WS, mode=1, weight_stride=PIECE, activation_stride=0) | change
            with pytest.raises(Refusal) as refused:
                check_bitmod(CONFIG, bad)
            assert (refused.value.cause, refused.value.addr) == (cause, addr), case
            for command in (good, bad):
                await put_one(ctx, unit.command, command)
            ctx.set(unit.command.valid, 1)
            await ctx.tick().until(unit.error)
            assert (ctx.get(unit.report.cause), ctx.get(unit.report.addr)) == (cause, addr), case
            for _ in range(6):
                assert ctx.get(unit.error)
                assert not ctx.get(unit.command.ready)
                await ctx.tick()
            assert len(bench.done) == before + 1, case
            ctx.set(unit.abort, 1)
            ctx.set(unit.command.valid, 0)
            await ctx.tick().repeat(2)
            assert not ctx.get(unit.busy)
            assert not ctx.get(unit.error)
            ctx.set(unit.abort, 0)
            bench.rows.clear()
            await put_one(ctx, unit.command, good)
            await bench.until_idle(ctx)
            assert [row[1:] for row in bench.rows] == rows_of(good, scratchpad), case

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_abort_in_the_middle() -> None:
    """At any cycle of a command: no row, no `done` afterwards, and the next command is right."""
    command = command_of(5, 6, 36, Dataflow.WS, mode=3, weight_stride=PIECE, activation_stride=36)
    scratchpad = memory_image(CONFIG, 2)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=4)

    async def drive(ctx: Any) -> None:
        for wait in range(1, 150, 14):
            await put_one(ctx, dut.unit.command, command)
            await ctx.tick().repeat(wait)
            ctx.set(dut.unit.abort, 1)
            await ctx.tick()
            bench.rows.clear()
            bench.done.clear()
            await ctx.tick().repeat(3)
            assert not ctx.get(dut.unit.busy)
            ctx.set(dut.unit.abort, 0)
            await ctx.tick().repeat(40)
            assert not bench.rows
            assert not bench.done
            await put_one(ctx, dut.unit.command, command)
            await bench.until_idle(ctx)
            assert [row[1:] for row in bench.rows] == rows_of(command, scratchpad)

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_products_fit_a_psum() -> None:
    """The pure data of the engine and the widths of its PEs agree."""
    for formats in ((), ("bitmod4-g128",), ("int6-g256-int8", "bitmod3-g16")):
        config = AcceleratorConfig(rows=R, columns=C, weight_formats=formats, **SMALL)
        assert BitmodEngine(config).shape.product_width == config.psum_width


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 6}, r"AcceleratorConfig\.rows must be a power of two for BitMoD, at least 4 \(nearest: 8\), not 6"),
    ({"rows": 2}, r"AcceleratorConfig\.rows must be a power of two for BitMoD, at least 4 \(nearest: 4\), not 2"),
    ({"columns": 6},
     r"AcceleratorConfig\.columns must be a power of two for BitMoD, at least 2 \(nearest: 8\), not 6"),
    ({"columns": 16, "rows": 16}, r"AcceleratorConfig\.vector_lanes must be such that lines have 32 bytes for BitMoD \(2 of each "
                                  r"column\), not 2 \(lines of 16\)"),
    ({"dataflows": ("ws", "os")}, r"AcceleratorConfig\.dataflows must be \('ws',\) for BitMoD, whose operands lie so, not \('ws', 'os'\)"),
    ({"weight_format": "int4"},
     r"AcceleratorConfig\.weight_format must be 'int8' for BitMoD \(others are weight_formats\), not 'int4'"),
    ({"weight_formats": ("nf4-g128",)}, r"a format for BitMoD must have elements of int8, .* and no zero point, not 'nf4-g128'"),
    ({"weight_formats": ("bitmod4-g16", "bitmod4-g24")},
     r"a format for BitMoD must have groups of a multiple of 16, at most 4096, not 'bitmod4-g24'"),
])
def test_refused_configs(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{text}$"):
        AcceleratorConfig(**{"rows": R, "columns": C} | SMALL | fields)
