"""Compute path with INT32 accumulators that are clipped: P3-LLM's K and V, in the order of the golden model."""

import numpy as np
import pytest

from hw.pim.compute import ComputePath
from hw.pim.multiplier import operand_named
from sw.golden.pim.p3_unit import x_integers
from sw.golden.pim.saturating import saturating_bcast, saturating_sum, saturating_tree
from tb.pim.compute_bench import ComputeBench

LANES, ROWS, SLOTS = 4, 2, 2


def bench():
    path = ComputePath(
        weights=tuple(operand_named(name) for name in ("bitmod4", "p3-kv", "p3-kv")),
        xs=tuple(operand_named(name) for name in ("float8_e4m3fn", "float8_e4m3fn", "float8_s0e4m4")), acc="int32", lanes=LANES,
        rows=ROWS, slots=SLOTS, groups=2, beats=2, bursts=128, slices=64, entries=8, wide=4)
    return ComputeBench(path, weight_bits=4, x_bits=8, rows=ROWS)


def loud(rng, *shape):
    """Return codes of E4M3 near its largest, some of them negative."""
    return (rng.integers(0x78, 0x7F, shape) | np.where(rng.random(shape) < 0.05, 0x80, 0)).astype(np.uint8)


def test_keys_are_clipped_in_order():
    rng = np.random.default_rng(1)
    system, k, tokens = bench(), 64 * LANES, 2
    codes, x = rng.integers(14, 16, (tokens, k), dtype=np.uint8), loud(rng, ROWS, k)
    system.x(0, x)
    system.sides = [(token, 1, 0) for token in range(tokens)]
    system.mac(codes.reshape(-1, LANES), select=1, period=63)
    found = system.run(tokens)[:, 0].view(np.int32)
    weights, other = codes.astype(np.int64) - 1, x_integers(1, x)
    assert (found == saturating_tree(weights, other, lanes=LANES, slots=SLOTS)).all()
    exact = weights @ other.T
    assert (exact >= 1 << 31).all()                             # or nothing was clipped
    assert not system.nan_error


def test_values_are_clipped_in_order():
    rng = np.random.default_rng(2)
    system, tokens, half = bench(), 240, 120
    zero_point = np.where(np.arange(tokens) < 228, 0, 15)
    codes, p = rng.integers(13, 16, (tokens, 2 * LANES), dtype=np.uint8), rng.integers(0xF8, 0x100, (ROWS, 256), dtype=np.uint8)
    system.x(0, p)
    system.sides = [(token, int(zero), 0) for token, zero in enumerate(zero_point)]
    system.mac(codes[:half].reshape(-1, LANES), select=2, bcast=1, period=1, last=0)
    system.mac(codes[half:].reshape(-1, LANES), select=2, bcast=1, period=1, x=half, clr=0)
    found = system.run(2).view(np.int32).reshape(-1, ROWS).T
    weights = codes.astype(np.int64) - zero_point[:, None]
    other = x_integers(2, p)[:, :tokens]
    assert (found == saturating_bcast(weights, other, slots=SLOTS)).all()
    assert (other @ weights >= 1 << 31).all()                   # or nothing was clipped


def test_a_nan_is_reported():
    system = bench()
    system.x(0, np.full((ROWS, 2 * LANES), 0x7F, np.uint8))
    system.mac(np.zeros((2, LANES), int), select=1)
    system.run(1)
    assert system.nan_error


@pytest.mark.parametrize(("values", "total"), [
    ([1, 2, 3, 4], 10), ([1 << 30] * 4, (1 << 31) - 1), ([-1 << 31, -1, 5, 6], (-1 << 31) + 11)])
def test_sums_are_clipped_at_every_step(values, total):
    assert saturating_sum(np.array(values, np.int64)) == total
