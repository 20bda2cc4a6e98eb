# amaranth: UnusedElaboratable=no
"""The dual-side sparse engine under bad commands, bad masks and `abort`; the golden model refuses the same."""

from typing import Any

import numpy as np
import pytest

from hw.array.dstc_engine import DstcEngine
from hw.isa import ErrorCause
from sw.golden.array.dstc import result_rows, run_matrix
from sw.golden.refusal import Refusal
from tb.array.dstc import config_of, place, state_of
from tb.array.engine import EngineBench
from tb.array.refused import refused_alike
from tb.sim import put_one, simulate

CONFIG = config_of("4:32", "8:16")
SIZE = CONFIG.scratchpad_bytes
PLAIN, MASKED, LONG = 1024, 2048, 4096          # where the good commands' weights lie


def operands() -> tuple[np.ndarray, dict[int, dict[str, int]]]:
    """Return a scratchpad, and a good command of several chunks and two groups of columns for every mode."""
    rng = np.random.default_rng(1)
    scratchpad = np.zeros(SIZE, np.uint8)
    commands = {mode: place(CONFIG, mode, 3, 12, k, rng, scratchpad, weight_addr=addr, acc_addr=2, densities=(0.7, 0.4))[0]
                for mode, k, addr in ((0, 20, PLAIN), (1, 20, MASKED), (2, 24, LONG))}
    return scratchpad, commands


FIELDS = refused_alike(SIZE) | {
    "weight stride": (0, {"weight_stride": 3}, ErrorCause.MISALIGNED, 3),
    "first activation": (1, {"activation_addr": SIZE - 7}, ErrorCause.SCRATCHPAD_RANGE, SIZE - 7),
    "later chunk of a row": (0, {"activation_addr": SIZE - 15, "activation_stride": 0}, ErrorCause.SCRATCHPAD_RANGE, SIZE - 7),
    "later weight": (0, {"weight_stride": 4096}, ErrorCause.SCRATCHPAD_RANGE, PLAIN + 4 * 4096),
    "weight group": (0, {"weight_tile_stride": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE + PLAIN),
    "weight past 24 bits": (0, {"weight_stride": (1 << 24) - 8, "weight_addr": 16}, ErrorCause.SCRATCHPAD_RANGE, (1 << 24) + 8),
    "masks": (1, {"weight_addr": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE),
    "masks of the next group": (2, {"weight_tile_stride": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE + LONG),
    "rows before weights": (1, {"weight_addr": SIZE, "activation_addr": SIZE}, ErrorCause.SCRATCHPAD_RANGE, SIZE),
}
RECORDS = ("more values than there is room", "the same in a later chunk", "values outside")


def bad_case(name: str) -> tuple[np.ndarray, dict[str, int], ErrorCause, int]:
    """Return scratchpad, bad command, cause and address of a case."""
    scratchpad, commands = operands()
    if name in FIELDS:
        mode, change, cause, addr = FIELDS[name]
        return scratchpad, commands[mode] | change, cause, addr
    if name == RECORDS[0]:                              # four masks of eight bits, one of one: there is room for 32
        scratchpad[MASKED:MASKED + 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x40, 0, 0, 0]
        return scratchpad, commands[1], ErrorCause.METADATA, MASKED + 32 + 32
    if name == RECORDS[1]:                              # 64 of 16·8 fit: 56 in the first chunk, 10 and more in the second
        scratchpad[LONG:LONG + 16] = [0xFF] * 7 + [0] + [0xFF, 0x81] + [1] * 6
        return scratchpad, commands[2], ErrorCause.METADATA, LONG + 16 + 64
    addr = SIZE - 40                                    # masks inside, values from 8 bytes before the end
    scratchpad[addr:addr + 8] = [0x0F, 0, 0x0E, 0x70, 0, 0, 0, 0]
    return scratchpad, commands[1] | {"weight_addr": addr, "n": 4, "k": 8}, ErrorCause.SCRATCHPAD_RANGE, SIZE - 1


@pytest.mark.parametrize("cases", [tuple(FIELDS)[:12], tuple(FIELDS)[12:], RECORDS], ids=["sizes", "ranges", "records"])
def test_errors_are_precise_and_abort_clears_them(cases: tuple[str, ...]) -> None:
    """Good commands before a bad one are done and written, nothing later is taken, and after `abort` the next one works."""
    dut = DstcEngine(CONFIG)
    good_pad, commands = operands()
    bench = EngineBench(dut, good_pad.copy(), lanes=0.5)

    async def drive(ctx: Any) -> None:
        for name in cases:
            scratchpad, bad, cause, addr = bad_case(name)
            good = commands[0] if bad["mode"] else commands[1]
            bench.scratchpad[:] = scratchpad
            assert await bench.stopped(ctx, good, bad, held=5) == (cause, addr), name
            bench.scratchpad[:] = good_pad
            bench.rows.clear()
            await put_one(ctx, dut.unit.command, commands[1])
            await bench.until_idle(ctx)
            assert [row[1:] for row in bench.rows] == [
                (row, accumulate, list(sums)) for row, accumulate, sums in result_rows(state_of(CONFIG, good_pad), commands[1])]

    simulate(dut, drive, background=[bench.memory, bench.record])


@pytest.mark.parametrize("name", [*FIELDS, *RECORDS])
def test_the_golden_model_refuses_the_same(name: str) -> None:
    scratchpad, command, cause, addr = bad_case(name)
    state = state_of(CONFIG, scratchpad)
    with pytest.raises(Refusal) as refused:
        run_matrix(state, command)
    assert (refused.value.cause, refused.value.addr) == (cause, addr)
    assert state.counters["macs"] == 0
    assert not state.accumulator.any()


def test_outputs_beyond_n_are_not_multiplied() -> None:
    """Masks and values of outputs that a command does not have may be anything that its records have room for."""
    scratchpad, commands = operands()
    rng = np.random.default_rng(2)
    full = place(CONFIG, 1, 3, 8, 20, rng, scratchpad, weight_addr=MASKED, densities=(1.0, 0.4))[0]
    state = state_of(CONFIG, scratchpad)
    whole = [row[2] for row in result_rows(state, full)]
    for n in (1, 5):
        dut = DstcEngine(CONFIG)
        bench = EngineBench(dut, scratchpad, lanes=0.5)
        simulate(dut, bench.feed([full | {"n": n}, commands[0] | {"n": n}]), background=[bench.memory, bench.record])
        assert [row[3] for row in bench.rows[:3]] == [[*row[:n], *[0] * (8 - n)] for row in whole]
        assert not any(any(row[3][n:]) for row in bench.rows)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_abort_in_the_middle(mode: int) -> None:
    """At any cycle of a command: no row, no `done` afterwards, and the same command is right."""
    scratchpad, commands = operands()
    dut = DstcEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=0.5)
    expected = [list(row[2]) for row in result_rows(state_of(CONFIG, scratchpad), commands[mode])]

    async def drive(ctx: Any) -> None:
        for wait in range(1, 100, 7):
            await bench.aborted(ctx, commands[mode], after=wait, settled=20)
            assert [row[3] for row in bench.rows] == expected

    simulate(dut, drive, background=[bench.memory, bench.record])
