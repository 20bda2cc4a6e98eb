"""Place of the next token: against arithmetic on whole numbers, and what does not fit."""

import dataclasses
import random

import pytest

from hw.pim.isa import HEAD_SETTINGS
from hw.pim.kv_place import KvPlace
from hw.pim.presets import PIM_PRESETS
from tb.sim import simulate

SMALL = dataclasses.replace(PIM_PRESETS["pim-tiny"], streams=1, lanes=8, k_tile=64, xbuf_entries=16)
ONE_SET = dataclasses.replace(PIM_PRESETS["pim-aim"], dram_rows=100)


async def seth(ctx, dut, head, **settings):
    for name, value in settings.items():
        ctx.set(dut.setting.head, head)
        ctx.set(dut.setting.setting, HEAD_SETTINGS.index(name))
        ctx.set(dut.setting.value, value)
        ctx.set(dut.setting.valid, 1)
        await ctx.tick()
    ctx.set(dut.setting.valid, 0)


@pytest.mark.parametrize("config", [SMALL, PIM_PRESETS["pim-duplex"], ONE_SET], ids=["small", "duplex", "one set"])
def test_tokens_lie_one_after_the_other_over_the_sets(config):
    dut = KvPlace(config)
    rng = random.Random(config.lanes)
    sets = min(16, config.row_sets)

    async def bench(ctx):
        for _ in range(60):
            head, slices = rng.randrange(config.heads), config.stream_slices << rng.randrange(4)
            tokens, k_row, v_row = rng.choice([rng.randrange(40), rng.randrange(2000)]), rng.randrange(8), rng.randrange(30)
            await seth(ctx, dut, head, k_row=k_row, v_row=v_row, tokens=tokens, output=rng.randrange(64))
            ctx.set(dut.head, head)
            ctx.set(dut.slices, slices)
            ctx.set(dut.max_tokens, tokens + 2)
            for extra in range(3):
                for value in (0, 1):
                    ctx.set(dut.value, value)
                    turn, segment = divmod(tokens + extra, config.segments)
                    burst, beat = divmod(turn * slices, config.beats)
                    row, column = divmod(burst, config.dram.columns)
                    expected = (row % sets, (k_row, v_row)[value] + row // sets, column, beat, segment)
                    assert tuple(ctx.get(port) for port in (dut.set, dut.row, dut.column, dut.beat, dut.segment)) == expected
                    assert ctx.get(dut.beyond) == (expected[1] >= config.dram_rows)
                    assert ctx.get(dut.full) == (extra == 2)
                    assert not ctx.get(dut.odd)
                    ctx.set(dut.append, 1)
                    await ctx.tick()
                    ctx.set(dut.append, 0)

    simulate(dut, bench, seed=config.lanes)


@pytest.mark.parametrize(("slices", "odd"), [(0, 1), (1, 1), (2, 0), (3, 1), (64, 0), (128, 1)])
def test_tokens_that_would_cross_a_row_or_are_a_part_of_a_stream_are_odd(slices, odd):
    dut = KvPlace(SMALL)

    async def bench(ctx):
        ctx.set(dut.slices, slices)
        assert ctx.get(dut.odd) == odd
        await ctx.tick()

    simulate(dut, bench)


def test_settings_that_are_too_large_stay_so():
    dut = KvPlace(SMALL)

    async def bench(ctx):
        ctx.set(dut.slices, 2)
        for settings in ({"k_row": 1 << 16, "tokens": 0}, {"k_row": 0, "tokens": (1 << 32) - 1}):
            await seth(ctx, dut, 0, **settings, output=1 << 16)
            assert ctx.get(dut.beyond)
            assert ctx.get(dut.output) == 1023

    simulate(dut, bench)
