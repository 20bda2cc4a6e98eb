"""P3-LLM's unit against its integer model: three modes, two vectors for a column, saturation; the model against the formats."""

import numpy as np
import pytest

from hw.elements import ELEMENTS
from hw.pim.p3_unit import P3_LANES, P3_PES, P3Unit
from sw.golden.pim.p3_unit import LSB, p3_unit, x_integers
from tb.pim.compute_bench import pack
from tb.sim import simulate


def run(mode, columns, x, zero_point, special, *, gap=0):
    """Return accumulators, (vectors, 16), and the flags: each column for all vectors in cycles that follow each other."""
    dut = P3Unit()
    vectors = x.shape[1]
    found = np.zeros((vectors, P3_PES), np.int64)
    flags = {}

    async def bench(ctx):
        ctx.set(dut.mode, mode)
        for index, column in enumerate(columns):
            ctx.set(dut.zero_point.as_value(), pack(zero_point[index], 4))
            ctx.set(dut.special.as_value(), pack(special[index], 2))
            for vector in range(vectors):
                ctx.set(dut.valid, 1)
                ctx.set(dut.hold, vector > 0)
                ctx.set(dut.column, pack(column.reshape(-1), 4) if not vector else 0)
                ctx.set(dut.x.as_value(), pack(x[index, vector], 8))
                ctx.set(dut.vector, vector)
                ctx.set(dut.first, index == 0)
                await ctx.tick()
            ctx.set(dut.valid, 0)
            ctx.set(dut.first, 1)                               # means nothing without valid
            for _ in range(gap):
                await ctx.tick()
        await ctx.tick().repeat(dut.latency - 1)
        found[:] = [[ctx.get(dut.o[vector][pe]) for pe in range(P3_PES)] for vector in range(vectors)]
        flags.update(saturated=ctx.get(dut.saturated), invalid=ctx.get(dut.invalid))

    simulate(dut, bench, deadline=3000)
    return found, flags


def operands(rng, mode, count, vectors):
    x = rng.integers(0, 256, (count, vectors, P3_LANES), dtype=np.uint8)
    if mode < 2:
        x[(x & 0x7F) == 0x7F] = 0x45
    return (rng.integers(0, 16, (count, P3_PES, P3_LANES), dtype=np.uint8), x,
            rng.integers(0, 16, (count, P3_PES), dtype=np.uint8), rng.integers(0, 4, (count, P3_PES), dtype=np.uint8))


@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("mode", range(3))
def test_a_column_for_two_vectors(mode, gap):
    columns, x, zero_point, special = operands(np.random.default_rng(mode), mode, 12, 2)
    found, flags = run(mode, columns, x, zero_point, special, gap=gap)
    expected, clipped = p3_unit(mode, columns, x, zero_point=zero_point, special=special)
    assert (found == expected).all()
    assert flags == {"saturated": clipped, "invalid": 0}


@pytest.mark.parametrize("sign", [1, -1])
def test_accumulators_are_clipped_not_wrapped(sign):
    count = 60                                                  # 4 · 15 · 28 · 2^15 a column: full after 39
    columns = np.full((count, P3_PES, P3_LANES), 15, np.uint8)
    x = np.full((count, 1, P3_LANES), 0x7E if sign > 0 else 0xFE, np.uint8)
    x[-2:] ^= 0x80                                              # and back from there
    zeros = np.zeros((count, P3_PES), np.uint8)
    found, flags = run(1, columns, x, zeros, zeros)
    expected, clipped = p3_unit(1, columns, x, zero_point=zeros, special=zeros)
    assert clipped
    assert (found == expected).all()
    assert abs(int(found[0, 0])) < (1 << 31) - 1
    assert flags == {"saturated": 1, "invalid": 0}


def test_a_group_of_128_never_saturates():
    columns = np.full((32, P3_PES, P3_LANES), 8, np.uint8)      # the special value 8, the largest element of x
    x = np.full((32, 1, P3_LANES), 0x7E, np.uint8)
    total, clipped = p3_unit(0, columns, x, zero_point=np.zeros((32, P3_PES), np.uint8),
                             special=np.full((32, P3_PES), 2, np.uint8))
    assert not clipped
    assert (total == 448 * 16 * 128 << 11).all()


def test_a_nan_is_reported():
    columns, x, zero_point, special = operands(np.random.default_rng(9), 0, 3, 1)
    x[1, 0, 2] = 0xFF
    _, flags = run(0, columns, x, zero_point, special)
    assert flags["invalid"] == 1


@pytest.mark.parametrize("mode", range(3))
def test_the_model_is_of_its_formats(mode):
    element = ELEMENTS["float8_s0e4m4" if mode == 2 else "float8_e4m3fn"]
    codes = np.array([code for code in range(256) if element.value(code) == element.value(code)], np.uint8)
    assert (x_integers(mode, codes) == [element.value(int(code)) * 2.0**(19 if mode == 2 else 11) for code in codes]).all()
    weight = np.arange(16, dtype=np.uint8).repeat(4).reshape(1, P3_PES, P3_LANES)
    one = np.full((1, 1, P3_LANES), 0xF0 if mode == 2 else 0x38, np.uint8)
    zero_point, special = np.full((1, P3_PES), 5, np.uint8), np.full((1, P3_PES), 1, np.uint8)
    total, _ = p3_unit(mode, weight, one, zero_point=zero_point, special=special)
    levels = [ELEMENTS["float4_e2m1fn"].value(code) if code != 8 else -5.0 for code in range(16)] if mode == 0 else \
        [code - 5 for code in range(16)]
    assert (total[0] == np.array(levels) * 4 * 2.0**-LSB[mode]).all()
