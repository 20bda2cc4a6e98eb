"""Saturating adder: every pair of 4-bit words, corners of 32 bits, and a register that holds."""

import itertools

import pytest

from hw.pim.saturating_add import SaturatingAdd
from tb.arith.pipeline import run_pipeline


def expected(a, b, width):
    half = 1 << width - 1
    a, b = ((word ^ half) - half for word in (a, b))
    return min(max(a + b, -half), half - 1) & (1 << width) - 1


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_every_pair(stall):
    pairs = list(itertools.product(range(16), repeat=2))
    a, b = zip(*pairs, strict=True)
    assert run_pipeline(SaturatingAdd(4), {"a": a, "b": b}, stall=stall) == [expected(*pair, 4) for pair in pairs]


def test_corners_of_accumulators():
    corners = [0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x80000001, 0x40000000, 0xC0000000]
    pairs = list(itertools.product(corners, repeat=2))
    a, b = zip(*pairs, strict=True)
    assert run_pipeline(SaturatingAdd(32), {"a": a, "b": b}) == [expected(*pair, 32) for pair in pairs]
