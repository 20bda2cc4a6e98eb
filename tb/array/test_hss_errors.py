# amaranth: UnusedElaboratable=no
"""The structured-sparsity engine under bad commands, bad coordinates and `abort`; the golden model refuses the same."""

from typing import Any

import numpy as np
import pytest

from hw.array.hss import HssEngine
from hw.isa import ErrorCause
from sw.golden.array.hss import result_rows, run_matrix
from sw.golden.refusal import Refusal
from sw.golden.state import State
from tb.array.hss import SDQ, HssBench, config_of, place
from tb.array.refused import refused_alike
from tb.sim import put_one, simulate

CONFIG = config_of("hss-4:5-2:3", SDQ)
SIZE = CONFIG.scratchpad_bytes
WEIGHTS, WEIGHTS_SDQ = 1024, 2048                   # where the good commands' weights lie


def operands() -> tuple[np.ndarray, dict[int, dict[str, int]]]:
    """Return a scratchpad, and a good command of two steps and two groups of columns for every mode."""
    rng = np.random.default_rng(1)
    scratchpad = np.zeros(SIZE, np.uint8)
    commands = {mode: place(CONFIG, mode, 3, 4, k, rng, scratchpad, weight_addr=addr, acc_addr=2)[0]
                for mode, k, addr in ((0, 16, 512), (1, 30, WEIGHTS), (2, 32, WEIGHTS_SDQ))}
    return scratchpad, commands


FIELDS = refused_alike(SIZE) | {
    "weight stride": (1, {"weight_stride": 3}, ErrorCause.MISALIGNED, 3),
    "first activation": (1, {"activation_addr": SIZE - 14}, ErrorCause.SCRATCHPAD_RANGE, SIZE - 14),
    "last bytes of a row": (0, {"activation_addr": SIZE - 15, "activation_stride": 0}, ErrorCause.SCRATCHPAD_RANGE, SIZE - 7),
    "later weight": (0, {"weight_stride": 1024}, ErrorCause.SCRATCHPAD_RANGE, 512 + 8 * 1024),
    "weight group": (0, {"weight_tile_stride": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE + 512),
    "record": (1, {"weight_stride": 1024}, ErrorCause.METADATA, 1024 + 1024),
    "record group": (2, {"weight_tile_stride": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE + WEIGHTS_SDQ),
}
BYTES = {       # mode, slot of the first record, what column 1 has there
    "block equal": (1, 0, 0x11), "block falls": (1, 0, 0x12), "block beyond H1": (1, 1, 0x53),
    "block below the byte before": (1, 1, 0x40), "value equal": (1, 2, 0b10_01_00_00), "value beyond H0": (1, 3, 0b11_00_01_00),
    "value falls": (1, 2, 0b10_00_01_10), "outlier": (2, 0, 0x08), "second outlier": (2, 0, 0x80), "shift": (2, 1, 0x05),
    "beside the shift": (2, 1, 0x10), "left out equal": (2, 2, 0x33), "left out falls": (2, 3, 0x12), "left out": (2, 3, 0x80)}


def bad_case(name: str) -> tuple[np.ndarray, dict[str, int], ErrorCause, int]:
    """Return scratchpad, bad command, cause and address of a case."""
    scratchpad, commands = operands()
    if name in FIELDS:
        mode, change, cause, addr = FIELDS[name]
        return scratchpad, commands[mode] | change, cause, addr
    mode, slot, byte = BYTES[name]
    addr = commands[mode]["weight_addr"] + slot * 2
    scratchpad[addr:addr + 2] = {0: [0x10, byte], 1: [0x32, byte]}.get(slot, [0x44, byte]) if mode == 1 else [0x10, byte]
    if mode == 1 and slot > 1:
        scratchpad[addr] = 0b01_00_01_00
    if mode == 2 and slot == 1:
        scratchpad[addr] = 4
    return scratchpad, commands[mode], ErrorCause.METADATA, addr


@pytest.mark.parametrize("cases", [tuple(FIELDS)[:12], tuple(FIELDS)[12:], tuple(BYTES)], ids=["sizes", "ranges", "coordinates"])
def test_errors_are_precise_and_abort_clears_them(cases: tuple[str, ...]) -> None:
    """Good commands before a bad one are done and written, nothing later is taken, and after `abort` the next one works."""
    dut = HssEngine(CONFIG)
    unit = dut.unit
    good_pad, commands = operands()
    bench = HssBench(dut, good_pad)

    async def drive(ctx: Any) -> None:
        for name in cases:
            scratchpad, bad, cause, addr = bad_case(name)
            good = commands[0] if bad["mode"] else commands[1]
            bench.scratchpad[:] = scratchpad
            assert await bench.stopped(ctx, good, bad, held=5) == (cause, addr), name
            bench.scratchpad[:] = good_pad_copy
            bench.rows.clear()
            await put_one(ctx, unit.command, commands[1])
            await bench.until_idle(ctx)
            assert [row[1:] for row in bench.rows] == [(row, accumulate, list(sums)) for row, accumulate, sums, _ in result_rows(
                CONFIG, commands[1], good_pad_copy)], name

    good_pad_copy = good_pad.copy()
    simulate(dut, drive, background=[bench.memory, bench.record])


@pytest.mark.parametrize("name", [*FIELDS, *BYTES])
def test_the_golden_model_refuses_the_same(name: str) -> None:
    scratchpad, command, cause, addr = bad_case(name)
    state = State(config=CONFIG, memory=np.zeros(1, np.uint8), scratchpad=scratchpad, rows=np.zeros(1, np.float32),
                  accumulator=np.zeros((CONFIG.accumulator_rows, CONFIG.columns), np.int64),
                  counters={"macs": 0, "saturations": 0})
    with pytest.raises(Refusal) as refused:
        run_matrix(state, command)
    assert (refused.value.cause, refused.value.addr) == (cause, addr)
    assert state.counters["macs"] == 0


def test_columns_beyond_n_are_not_checked() -> None:
    """Bytes of columns that a command does not have may be anything."""
    scratchpad, commands = operands()
    scratchpad[WEIGHTS + 1:WEIGHTS + 8:2] = 0xFF
    command = commands[1] | {"n": 1}
    dut = HssEngine(CONFIG)
    bench = HssBench(dut, scratchpad)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record])
    assert bench.error_cycle is None
    assert [row[3] for row in bench.rows] == [list(sums) for _, _, sums, _ in result_rows(CONFIG, command, scratchpad)]
    assert all(row[3][1] == 0 for row in bench.rows)


def test_abort_in_the_middle() -> None:
    """At any cycle of a command: no row, no `done` afterwards, and the next command is right."""
    scratchpad, commands = operands()
    dut = HssEngine(CONFIG)
    bench = HssBench(dut, scratchpad)

    async def drive(ctx: Any) -> None:
        for wait in range(1, 70, 9):
            await put_one(ctx, dut.unit.command, commands[2])
            await ctx.tick().repeat(wait)
            ctx.set(dut.unit.abort, 1)
            await ctx.tick()
            bench.rows.clear()
            bench.done.clear()
            await ctx.tick().repeat(3)
            assert not ctx.get(dut.unit.busy)
            ctx.set(dut.unit.abort, 0)
            await ctx.tick().repeat(20)
            assert not bench.rows
            assert not bench.done
            await put_one(ctx, dut.unit.command, commands[1])
            await bench.until_idle(ctx)
            assert [row[3] for row in bench.rows] == [list(row[2]) for row in result_rows(CONFIG, commands[1], scratchpad)]

    simulate(dut, drive, background=[bench.memory, bench.record])
