# amaranth: UnusedElaboratable=no
"""Rotary embedding by recurrence: bit for bit the golden model's, errors as stated, a pair a cycle."""

import random
import re

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.token.rotary import Rotary
from sw.golden.token.rotary import advanced, exact_rotation, turned
from tb.sim import put_one, simulate

PAIRS = 5
ANGLES = 1e4 ** (-np.arange(PAIRS) / PAIRS)


async def write(ctx, dut, rotation, *, step):
    """Write all frequencies."""
    for pair, (cos, sin) in enumerate(zip(*rotation, strict=True)):
        for name, value in (("write", 1), ("write_step", step), ("write_pair", pair), ("write_cos", int(cos)),
                            ("write_sin", int(sin))):
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
    ctx.set(dut.write, 0)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("width", [24, 18])
def test_positions_one_after_the_other(width: int, stall: float) -> None:
    rng, rand = np.random.default_rng(1), random.Random(1)
    dut = Rotary(pairs=PAIRS, width=width, element_width=16)
    now, step = exact_rotation(3 * ANGLES, width), exact_rotation(ANGLES, width)
    found, expected, advances = [], [], []

    async def watch(ctx):
        async for _, _, valid, a, b in ctx.tick().sample(dut.o_valid, dut.o_a, dut.o_b):
            if valid:
                found.append((a, b))

    async def drive(ctx):
        nonlocal now
        await write(ctx, dut, now, step=0)
        await write(ctx, dut, step, step=1)
        for position in range(12):
            a, b = rng.integers(-1 << 15, 1 << 15, (2, 7))
            pairs = rng.integers(0, PAIRS, 7)
            real, imaginary = turned(a, b, (now[0][pairs], now[1][pairs]), width)
            expected.extend(zip(real.tolist(), imaginary.tolist(), strict=True))
            for at in range(7):
                while rand.random() < stall:
                    await ctx.tick()
                await put_one(ctx, dut.i, {"a": int(a[at]), "b": int(b[at]), "pair": int(pairs[at])})
            await ctx.tick().until(dut.idle)
            if position == 8:                       # resync
                now = exact_rotation(40 * ANGLES, width)
                await write(ctx, dut, now, step=0)
                continue
            ctx.set(dut.advance, 1)
            await ctx.tick()
            ctx.set(dut.advance, 0)
            cycles = 0
            while not ctx.get(dut.idle):
                await ctx.tick()
                cycles += 1
            advances.append(cycles)
            now = advanced(now, step, width)

    simulate(dut, drive, background=[watch])
    assert found == expected
    assert set(advances) == {PAIRS + Rotary.latency}


def test_a_pair_a_cycle() -> None:
    dut, seen = Rotary(pairs=4), []

    async def drive(ctx):
        ctx.set(dut.i.valid, 1)
        for cycle in range(20):
            assert ctx.get(dut.i.ready)
            seen.append((cycle, ctx.get(dut.o_valid)))
            await ctx.tick()

    simulate(dut, drive)
    assert [cycle for cycle, valid in seen if valid] == list(range(Rotary.latency, 20))


@pytest.mark.parametrize(("width", "resync", "most"), [(24, 256, 4.3e-5), (24, 0, 6.5e-4), (32, 0, 2.7e-6)])
def test_error_over_4096_positions(width: int, resync: int, most: float) -> None:
    """A head of 128; cosines and sines against float64."""
    angles = 1e4 ** (-np.arange(64) / 64)
    step, now = exact_rotation(angles, width), exact_rotation(0 * angles, width)
    worst = 0.0
    for position in range(1, 4096):
        now = exact_rotation(position * angles, width) if resync and position % resync == 0 else advanced(now, step, width)
        exact = np.exp(1j * position * angles)
        worst = max(worst, np.abs(np.concatenate((now[0] - exact.real * 2.0**(width - 2),
                                                  now[1] - exact.imag * 2.0**(width - 2)))).max() / 2.0**(width - 2))
    assert most / 3 < worst < most


@pytest.mark.parametrize(("change", "text"), [
    ({"pairs": 0}, "pairs must be between 1 and 1024, not 0"), ({"width": 7}, "width must be between 8 and 32, not 7"),
    ({"element_width": 25}, "element_width must be between 2 and 24, not 25")])
def test_impossible_parameters(change: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"Rotary.{text}") + "$"):
        Rotary(**({"pairs": 4} | change))
