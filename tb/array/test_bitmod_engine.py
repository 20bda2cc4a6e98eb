# amaranth: UnusedElaboratable=no
"""The BitMoD engine: every row against the golden model, that against a plain product; cycles; bad commands and `abort`."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitmod_engine import BitmodEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import BITMOD_TERMS, bitmod_cycles
from hw.errors import ConfigError
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.bitmod import result_rows
from sw.golden.pe.bitmod import PRECISIONS, weight_value
from tb.array.engine import SMALL, EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

R, C, GROUP = 2, 4, 16
CONFIG = AcceleratorConfig(rows=R, columns=C, **SMALL | {"os_depth": 4096})
SPECIALS = (3.0, -5.0, 6.0, -2.5)
ACTIVATION_SLOT = 4 * R


def engine(precision: str, config: AcceleratorConfig = CONFIG) -> BitmodEngine:
    return BitmodEngine(config, precision=precision, group=GROUP, specials=SPECIALS)


def rows_of(command: dict[str, int], scratchpad: np.ndarray, precision: str) -> list[tuple[int, int, list[int]]]:
    return [(row, accumulate, list(products)) for row, accumulate, products in result_rows(
        CONFIG, command, scratchpad, precision=precision, group=GROUP, specials=SPECIALS)]


def weight_slot(precision: str) -> int:
    return 4 * C if precision in ("int8", "int6", "int5") else 2 * C


def random_command(precision: str, rng: random.Random) -> dict[str, int]:
    """Return a command whose slots and rows lie inside the memories; strides may be 0."""
    m, n, k = (1 if rng.random() < 0.2 else rng.randint(1, largest) for largest in (2 * R + 1, 2 * C + 1, 2 * GROUP + 7))
    fields = command_of(m, n, k, Dataflow.OS, accumulate=rng.randrange(2))
    steps = ceil_div(k, 4)
    for operand, slot, count, groups in (("activation", ACTIVATION_SLOT, steps, ceil_div(m, R)),
                                         ("weight", weight_slot(precision), steps + ceil_div(k, GROUP), ceil_div(n, C))):
        room = CONFIG.scratchpad_bytes // slot
        stride = rng.randint(0, min(3, (room - 1) // 2 // max(1, count - 1)))
        tile_stride = rng.randint(0, (room - 1) // 2 // max(1, groups - 1))
        spare = room - 1 - stride * (count - 1) - tile_stride * (groups - 1)
        fields |= {f"{operand}_addr": rng.randint(0, spare) * slot, f"{operand}_stride": stride * slot,
                   f"{operand}_tile_stride": tile_stride * slot}
    groups = ceil_div(n, C)
    tile_stride = rng.randint(0, (CONFIG.accumulator_rows - m) // max(1, groups - 1))
    return fields | {"acc_tile_stride": tile_stride,
                     "acc_addr": rng.randint(0, CONFIG.accumulator_rows - m - (groups - 1) * tile_stride)}


@pytest.mark.parametrize(("precision", "stall", "one_port"), [
    *((precision, 0.0, False) for precision in PRECISIONS), ("fp4", 0.5, False), ("int6", 0.2, True), ("fp3", 0.0, True)])
def test_random_commands(precision: str, stall: float, one_port: bool) -> None:
    """Back to back, with pauses, operands stalled or in one bank: the same rows in the same order, all counters right."""
    rng = random.Random(7)
    commands = [random_command(precision, rng) for _ in range(8)]
    scratchpad = memory_image(CONFIG, 7)
    dut = engine(precision)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=7, lanes=4)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=7)
    expected = [row for command in commands for row in rows_of(command, scratchpad, precision)]
    assert [row[1:] for row in bench.rows] == expected
    assert len(expected) > 40
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_model_multiplies(precision: str) -> None:
    """The rows of the golden model, added up, are A · (scale · W) of matrices laid out as the engine says."""
    rng = np.random.default_rng(3)
    m, n, k = 2 * R - 1, 2 * C, 2 * GROUP + 4
    bits, slot, groups = PRECISIONS[precision].element.bits, weight_slot(precision), 3
    a = rng.integers(-128, 128, (m, k))
    codes = rng.integers(0, 1 << bits, (k, n))
    scales, special = rng.integers(0, 256, (groups, n)), rng.integers(0, 4, (groups, n))
    left = np.pad(a, ((0, 1), (0, 0))).reshape(2, R, k).transpose(0, 2, 1).astype(np.int8).view(np.uint8).ravel()
    stream = []
    for j in range(n // C):
        columns = slice(j * C, j * C + C)
        for group in range(groups):
            header = np.stack([scales[group, columns], special[group, columns]], axis=1).ravel()
            stream.append(np.pad(header, (0, slot - header.size)))
            for start in range(group * GROUP, min(k, (group + 1) * GROUP), 4):
                quad = codes[start:start + 4, columns].ravel()
                stream.append(quad if slot == 4 * C else quad[::2] | quad[1::2] << 4)
    scratchpad = np.concatenate([left, np.concatenate(stream).astype(np.uint8)])
    command = command_of(m, n, k, Dataflow.OS, activation_stride=4 * R, activation_tile_stride=k * R, weight_addr=left.size,
                         weight_stride=slot, weight_tile_stride=len(stream) // 2 * slot, acc_addr=2, acc_tile_stride=10)
    accumulator = np.full((32, C), 1 << 20)
    for row, accumulate, products in rows_of(command, scratchpad, precision):
        accumulator[row] = np.array(products) + (accumulator[row] if accumulate else 0)
    weights = np.array([[weight_value(precision, int(codes[row, column]), SPECIALS[special[row // GROUP, column]])
                         * scales[row // GROUP, column] for column in range(n)] for row in range(k)])
    found = np.concatenate([accumulator[2:2 + m], accumulator[12:12 + m]], axis=1)
    assert (found == a @ weights * (2 if PRECISIONS[precision].is_float else 1)).all()
    assert (accumulator[[0, 1, 2 + m, 11, 12 + m]] == 1 << 20).all()


@pytest.mark.parametrize("precision", ["int8", "int6", "fp4"])
def test_cycles(precision: str) -> None:
    """A command alone, and in an unbroken run: the formulas of the engine and of `hw.engines`."""
    terms = BITMOD_TERMS[precision]
    dut = engine(precision)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)

    async def drive(ctx: Any) -> None:
        for m, n, k in ((R, C, 4 * GROUP), (2 * R, 2 * C, 2 * GROUP), (1, C, GROUP)):
            bench.taken.clear()
            bench.done.clear()
            command = command_of(m, n, k, Dataflow.OS)
            await bench.feed([command])(ctx)
            await bench.feed([command] * 4)(ctx)
            assert bench.done[0] - bench.taken[0] == _alone(m, n, k, terms)
            cycles = bitmod_cycles(R, C, m, n, k, precision, GROUP, tile_rows=R)
            steps = ceil_div(m, R) * ceil_div(n, C) * k // 4
            late = 2 if terms == 2 else 0
            assert set(np.diff(bench.done[1:])) == {max(cycles, steps * terms + late)}

    simulate(dut, drive, background=[bench.memory, bench.record])


def _alone(m: int, n: int, k: int, terms: int) -> int:
    """Return the cycles of one command, whose groups after the first one take R + 8 cycles at least."""
    groups = ceil_div(m, R) * ceil_div(n, C) * k // GROUP
    steps = GROUP // 4 * terms
    return steps + (groups - 1) * max(steps, R + 8) + 19 + (m - 1) % R + 1


BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "n is zero": ({"n": 0}, ErrorCause.BAD_SIZE, 0),
    "k is zero": ({"k": 0}, ErrorCause.BAD_SIZE, 0),
    "weight-stationary": ({"dataflow": 0}, ErrorCause.UNSUPPORTED, 0),
    "serialize": ({"serialize": 1}, ErrorCause.UNSUPPORTED, 1),
    "activation address": ({"activation_addr": 4}, ErrorCause.MISALIGNED, 4),
    "activation stride": ({"activation_stride": 2}, ErrorCause.MISALIGNED, 2),
    "activation tile stride": ({"activation_tile_stride": 1}, ErrorCause.MISALIGNED, 1),
    "weight address": ({"weight_addr": 1020}, ErrorCause.MISALIGNED, 1020),
    "weight stride": ({"weight_stride": 4}, ErrorCause.MISALIGNED, 4),
    "weight tile stride": ({"weight_tile_stride": 5}, ErrorCause.MISALIGNED, 5),
    "first rule wins": ({"weight_addr": 1, "activation_stride": 3, "m": 0}, ErrorCause.BAD_SIZE, 0),
    "first activation": ({"activation_addr": 1024}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "later activation": ({"activation_addr": 1016, "activation_stride": 8}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "activation group": ({"activation_tile_stride": 1 << 23}, ErrorCause.SCRATCHPAD_RANGE, 1 << 23),
    "header": ({"weight_addr": 2048}, ErrorCause.SCRATCHPAD_RANGE, 2048),
    "later weight": ({"weight_stride": 512}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "weight group": ({"weight_tile_stride": 1024}, ErrorCause.SCRATCHPAD_RANGE, 1024),
    "accumulator row": ({"acc_addr": 32}, ErrorCause.ACCUMULATOR_RANGE, None),
    "later accumulator row": ({"acc_addr": 29}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator group": ({"acc_tile_stride": 32}, ErrorCause.ACCUMULATOR_RANGE, None),
    "accumulator row past 16 bits": ({"acc_addr": 28, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE, None),
}




def test_errors_are_precise_and_abort_clears_them() -> None:
    """Good commands before a bad one are done and written, nothing later is taken, and after `abort` the next one works."""
    good = command_of(3, 6, 20, Dataflow.OS)
    scratchpad = memory_image(CONFIG, 1)
    dut = engine("fp4")
    bench = EngineBench(dut, scratchpad, lanes=4)
    unit = dut.unit

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in BAD.items():
            before = len(bench.done)
            for command in (good, command_of(4, 8, 24, Dataflow.OS) | change):
                await put_one(ctx, unit.command, command)
            ctx.set(unit.command.valid, 1)
            await ctx.tick().until(unit.error)
            assert ctx.get(unit.report.cause) == cause, case
            assert ctx.get(unit.report.addr) == addr if addr is not None else ctx.get(unit.report.addr) >= 32, case
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
            assert [row[1:] for row in bench.rows] == rows_of(good, scratchpad, "fp4"), case

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_abort_in_the_middle() -> None:
    """At any cycle of a command: no row, no `done` afterwards, and the next command is right."""
    command = command_of(3, 6, 36, Dataflow.OS)
    scratchpad = memory_image(CONFIG, 2)
    dut = engine("fp4")
    bench = EngineBench(dut, scratchpad, lanes=4)

    async def drive(ctx: Any) -> None:
        for wait in range(1, 100, 14):
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
            assert [row[1:] for row in bench.rows] == rows_of(command, scratchpad, "fp4")

    simulate(dut, drive, background=[bench.memory, bench.record])


@pytest.mark.parametrize(("fields", "precision", "group", "text"), [
    ({"rows": 3}, "fp4", 16, r"AcceleratorConfig\.rows must be a power of two for BitMoD \(nearest: 4\), not 3"),
    ({"columns": 6, "vector_lanes": 6}, "fp4", 16,
     r"AcceleratorConfig\.columns must be a power of two for BitMoD \(nearest: 8\), not 6"),
    ({}, "int8", 128, r"BitmodEngine\.group must be such that products \(31 bits\) fit a psum \(28 bits\), not 128"),
    ({"rows": 8}, "fp4", 16,
     r"AcceleratorConfig\.bus_width must make lines of at least 32 bytes for BitMoD \(a slot\), not of 16"),
    ({}, "fp5", 16, r"BitmodShape\.precisions must be a non-empty choice of int8, .*, not \('fp5',\)"),
    ({}, "fp4", 18, r"BitmodShape\.group must be a multiple of 4 .*, not 18"),
])
def test_refusals(fields, precision, group, text) -> None:
    config = AcceleratorConfig(**{"rows": R, "columns": C} | SMALL | {"os_depth": 4096} | fields)
    with pytest.raises(ConfigError, match=rf"^{text}$"):
        BitmodEngine(config, precision=precision, group=group)
