# amaranth: UnusedElaboratable=no
"""The BitMoD engine under bad commands and `abort`: errors are precise, golden model and RTL name the same; nothing lingers."""

from typing import Any

import pytest

from hw.array.bitmod_engine import BitmodEngine
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.bitmod import check_bitmod
from sw.golden.refusal import Refusal
from tb.array.bitmod_commands import CONFIG, MODES, PIECE, rows_of
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

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


RANGES = (ErrorCause.SCRATCHPAD_RANGE, ErrorCause.ACCUMULATOR_RANGE)
"""Faults that are found on the way, when stalls matter."""


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_errors_are_precise_and_abort_clears_them(stall: float) -> None:
    """Good commands before a bad one are done and written, nothing later is taken, and after `abort` the next one works.

    The golden model refuses the same command for the same reason, and names the same address.
    """
    good = command_of(3, 6, 20, Dataflow.WS, mode=2, weight_stride=PIECE, activation_stride=20)
    cases = {case: bad for case, bad in BAD.items() if not stall or bad[1] in RANGES}
    scratchpad = memory_image(CONFIG, 1)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=4, stall=stall)
    unit = dut.unit

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in cases.items():
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
        for wait in range(1, 120, 17):
            await bench.aborted(ctx, command, after=wait, settled=40)
            assert [row[1:] for row in bench.rows] == rows_of(command, scratchpad)

    simulate(dut, drive, background=[bench.memory, bench.record])
