# amaranth: UnusedElaboratable=no
"""Rows of angles: float32 of the recurrence's integers, read again and again, after records, advances and `clear`."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.isa import ANGLE_BITS, ANGLE_RECORD_BYTES
from hw.token.angles import AngleSource
from sw.golden.token.angles import ANGLE_WIDTH, Angles, angle_records
from sw.golden.units import RECORD
from tb.sim import put_one, simulate

PAIRS = 16
FREQUENCIES = 1e4 ** (-np.arange(PAIRS) / PAIRS)


@pytest.mark.parametrize("bus_width", [64, 128, 256, 512])
def test_rows_are_those_of_the_golden_model(bus_width: int) -> None:
    config = AcceleratorConfig(vector="transformer", rotary_pairs=PAIRS, bus_width=bus_width)
    dut, golden, rng = AngleSource(config), Angles(PAIRS), random.Random(bus_width)
    beat, found, expected = config.beat_bytes, [], []

    async def records(ctx, data):
        golden.set(data)
        for at in range(0, len(data), beat):
            await put_one(ctx, dut.i, {"data": int.from_bytes(data[at:at + beat].tobytes(), "little"),
                                       "last": at + beat >= len(data)})

    async def rows(ctx, pairs, *, advance):
        words = beat // 4
        for row in range(2):
            for at in range(0, pairs, words):
                ctx.set(dut.row_end, at + words >= pairs)
                ctx.set(dut.last, row == 1 and at + words >= pairs)
                ctx.set(dut.advance, advance)
                while rng.random() < 0.3:
                    await ctx.tick()
                ctx.set(dut.o.ready, 1)
                (payload,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
                found.append(int(payload).to_bytes(beat, "little"))
                ctx.set(dut.o.ready, 0)
        cos, sin = (values[:pairs].tobytes() for values in golden.rows())
        expected.append(cos + sin)
        if advance:
            golden.advance()

    async def drive(ctx):
        await rows(ctx, PAIRS, advance=False)                               # zeros
        await records(ctx, angle_records(FREQUENCIES, 0))
        for _ in range(3):
            await rows(ctx, PAIRS, advance=False)
            await rows(ctx, PAIRS, advance=True)
        await rows(ctx, max(beat // 4, 8), advance=True)                    # of smaller heads
        await records(ctx, angle_records(FREQUENCIES, 300)[:-(-48 // beat) * beat])         # the others stay
        await rows(ctx, PAIRS, advance=False)
        ctx.set(dut.o.ready, 1)                                             # a row that nobody wants the rest of
        ctx.set(dut.row_end, 0)
        ctx.set(dut.last, 0)
        await ctx.tick().until(dut.o.valid)
        ctx.set(dut.o.ready, 0)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        await rows(ctx, PAIRS, advance=True)
        await rows(ctx, PAIRS, advance=True)

    simulate(dut, drive)
    assert b"".join(found) == b"".join(expected)
    assert any(value not in (0, 0x3F) for value in found[-1])


@pytest.mark.parametrize("bus_width", [64, 256])
def test_clear_amid_records(bus_width: int) -> None:
    """Records that are broken off leave nothing behind for those that come next."""
    config = AcceleratorConfig(vector="transformer", rotary_pairs=PAIRS, bus_width=bus_width)
    dut, golden, beat = AngleSource(config), Angles(PAIRS), config.beat_bytes
    found = []

    async def drive(ctx):
        for position, broken in ((7, True), (9, False)):
            data = angle_records(FREQUENCIES, position)
            size = 3 * beat if broken else len(data)
            for at in range(0, size, beat):
                await put_one(ctx, dut.i, {"data": int.from_bytes(data[at:at + beat].tobytes(), "little"),
                                           "last": at + beat == len(data)})
            if broken:
                ctx.set(dut.clear, 1)
                await ctx.tick()
                ctx.set(dut.clear, 0)
            else:
                golden.set(data)
        for at in range(0, PAIRS, beat // 4):
            ctx.set(dut.row_end, at + beat // 4 == PAIRS)
            ctx.set(dut.o.ready, 1)
            (payload,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            found.append(int(payload).to_bytes(beat, "little"))

    simulate(dut, drive)
    assert b"".join(found) == golden.rows()[0].tobytes()


@pytest.mark.parametrize(("fields", "rule"), [
    ({"rotary_pairs": 6}, "a multiple of 4, the float32 words of a beat, not 6"),
    ({"rotary_pairs": 516}, "between 0 and 512, not 516"),
    ({"rotary_pairs": 8, "vector": "requantize"}, "0 with a vector unit that only requantizes, not 8"),
])
def test_configs_that_cannot_be(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^AcceleratorConfig.rotary_pairs must be {rule}$"):
        AcceleratorConfig(**{"vector": "transformer", **fields})


def test_what_the_golden_model_and_the_hardware_must_agree_on() -> None:
    assert (ANGLE_WIDTH, RECORD) == (ANGLE_BITS, ANGLE_RECORD_BYTES)
