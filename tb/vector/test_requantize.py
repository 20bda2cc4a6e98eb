# amaranth: UnusedElaboratable=no
"""One requantization lane against numpy's float32, and the argument that subnormal values may count as zero."""

import random
from typing import Any

import numpy as np
import pytest

from hw import timing
from hw.elements import FP32
from hw.errors import ConfigError
from hw.vector.requantize import RequantizeLane
from sw.golden.arith.floating import float_mul, float_to_int, int_to_float
from sw.golden.vector.requantize import requantize
from tb.sim import simulate

INT32_LIMITS = (1 << 31) - 1, -(1 << 31)
Elements = list[tuple[int, int, int, int]]                  # acc, bias, scale word, relu


def expected(elements: Elements) -> list[int]:
    """Return the golden int8 of each element."""
    acc, bias, scale, relu = (np.array(column) for column in zip(*elements, strict=True))
    plain = requantize(acc[None], bias=bias[None], scale=scale.astype(np.uint32).view(np.float32))[0]
    return np.where(relu == 1, np.maximum(plain, 0), plain).tolist()


def run_lane(acc_width: int, elements: Elements, *, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Return what a lane makes of `elements`, one a cycle, with every operand shown in its own cycle only."""
    dut = RequantizeLane(acc_width=acc_width)
    rng = random.Random(seed)
    results: list[int] = []

    def shown(step: int, part: int, default: int) -> int:
        return elements[step][part] if 0 <= step < len(elements) else default

    async def bench(ctx: Any) -> None:
        for step in range(len(elements) + dut.latency):
            while rng.random() < stall:
                ctx.set(dut.enable, 0)
                ctx.set(dut.scale.as_value(), rng.getrandbits(32))
                ctx.set(dut.acc, rng.getrandbits(acc_width - 1))
                await ctx.tick()
            ctx.set(dut.enable, 1)
            ctx.set(dut.acc, shown(step, 0, -1))
            ctx.set(dut.bias, shown(step - dut.bias_delay, 1, 7))
            ctx.set(dut.scale.as_value(), shown(step - dut.scale_delay, 2, 0x7FC0_0000))
            ctx.set(dut.relu, shown(step - dut.latency, 3, 0))
            if step >= dut.latency:
                results.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, bench, seed=seed, deadline=100_000)
    return results


def word(value: float) -> int:
    """Return the float32 nearest to `value` as a word."""
    return int(np.float32(value).view(np.uint32))


@pytest.mark.parametrize(("acc_width", "stall"), [(32, 0.0), (32, 0.2), (24, 0.0), (16, 0.2)])
def test_random_elements(acc_width, stall):
    rng = random.Random(acc_width)
    elements = []
    for _ in range(3000):
        acc = rng.getrandbits(acc_width) - (1 << (acc_width - 1)) >> rng.randrange(acc_width - 1)
        bias = rng.choice((0, rng.getrandbits(32) - (1 << 31) >> rng.randrange(31), rng.choice(INT32_LIMITS)))
        magnitude = max(abs(acc + bias), 1)
        scale = rng.choice((word(rng.uniform(-160, 160) / magnitude), rng.getrandbits(32)))
        elements.append((acc, bias, scale, rng.getrandbits(1)))
    got = run_lane(acc_width, elements, stall=stall, seed=acc_width)
    assert got == expected(elements)
    assert len(set(got)) > 230
    if acc_width == 32:
        assert sum(abs(acc + bias) >= 1 << 31 for acc, bias, *_ in elements) > 100    # saturated sums


def test_corners():
    sums = [0, 1, -1, 127, 128, -128, -129, (1 << 24) + 1, (1 << 24) + 3, (1 << 25) - 1, *INT32_LIMITS]
    biases = [0, 1, -1, *INT32_LIMITS]
    scales = [word(value) for value in (0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 2.0**-24, 2.0**-25, 2.0**-31, 127.5 / 2**31, 2.0**127)]
    scales += [0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0x0000_0001, 0x007F_FFFF, 0x807F_FFFF, 0x0080_0000]
    elements = [(acc, bias, scale, relu) for acc in sums for bias in biases for scale in scales for relu in (0, 1)]
    assert run_lane(32, elements) == expected(elements)


def test_every_tie():
    elements = [(2 * value + 1, 0, word(0.5), 0) for value in range(-140, 140)]
    elements += [(value, 0, word(sign * 0.25), 0) for value in range(-520, 520) for sign in (1, -1)]
    assert run_lane(16, elements) == expected(elements)


def test_subnormal_values_as_zero_give_the_same_int8():
    """No int32 times a subnormal scale, and no subnormal product, comes near a half: flushing them changes nothing."""
    rng = np.random.default_rng(11)
    sums = np.concatenate([[0, 1, -1, (1 << 31) - 1, -(1 << 31)], rng.integers(-1 << 31, 1 << 31, 20_000)])
    subnormal = np.concatenate([[1, 0x007F_FFFF], rng.integers(1, 0x0080_0000, len(sums) - 2)])
    just_normal = rng.integers(0x0080_0000, 0x0100_0000, len(sums))
    wild = rng.integers(0, 1 << 32, len(sums))
    for magnitude in (subnormal, just_normal, wild):
        scale = (magnitude | rng.integers(0, 2, len(sums)) << 31).astype(np.uint32)
        ieee = requantize(sums, scale=scale.view(np.float32))
        flushed = float_to_int(FP32, 8, float_mul(FP32, int_to_float(FP32, sums), scale))
        np.testing.assert_array_equal(flushed, ieee)
    largest = np.float32(2**31) * np.uint32(0x007F_FFFF).view(np.float32)
    assert largest < 2.0**-94                               # the bound: 2³¹ · 2⁻¹²⁶ is 2⁻⁹⁵, far from 2⁻¹


def test_latencies_stand_in_the_timing_table():
    assert RequantizeLane.latency == timing.REQUANTIZE_LATENCY
    assert RequantizeLane.scale_delay == timing.REQUANTIZE_SCALE_DELAY


@pytest.mark.parametrize("acc_width", [1, 33])
def test_bad_width(acc_width):
    with pytest.raises(ConfigError, match=rf"^RequantizeLane\.acc_width must be between 2 and 32, not {acc_width}$"):
        RequantizeLane(acc_width=acc_width)
