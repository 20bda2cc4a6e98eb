# amaranth: UnusedElaboratable=no
"""Fused multiply-add in Verilator: a million triples and the corners of every format, and sums that cancel."""

import numpy as np

from hw.arith.float_fma import FloatFma
from hw.elements import FloatFormat
from sw.golden.arith.floating import decode, float_fma, float_mul
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, operands

MODES = [(fmt, subnormals) for fmt in ARITHMETIC for subnormals in (True, False)]


def triples(fmt: FloatFormat, seed: int) -> list[np.ndarray]:
    """Return operands; in a half of them c is the rounded product with any sign, but for a few units in the last place."""
    a, b, c = operands(fmt, 3, 1_000_000, seed)
    rng = np.random.default_rng(seed)
    half = slice(0, None, 2)
    near = float_mul(fmt, a[half], b[half], subnormals=True)
    c[half] = near + rng.integers(0, 4, near.size, np.uint64) - np.uint64(2) & np.uint64((1 << fmt.bits) - 1)
    c[half] ^= rng.integers(0, 2, near.size, np.uint64) << np.uint64(fmt.bits - 1)
    return [a, b, c]


def test_triples():
    cases = {}
    for seed, (fmt, subnormals) in enumerate(MODES):
        a, b, c = triples(fmt, seed)
        expected = float_fma(fmt, a, b, c, subnormals=subnormals)
        cases[mode_name(fmt, subnormals)] = FloatFma(fmt=fmt, subnormals=subnormals), {"a": a, "b": b, "c": c}, expected
        exact = decode(fmt, expected, subnormals=True)
        assert all(np.any(found) for found in (exact == 0, np.isnan(exact)))
    check_all("float_fma", cases)


def test_saturated():
    fmt = ARITHMETIC[-1]
    a, b, c = triples(fmt, 7)
    expected = float_fma(fmt, a, b, c, subnormals=True, saturate=True)
    assert not np.isinf(decode(fmt, expected)).any()
    block = FloatFma(fmt=fmt, subnormals=True, saturate=True)
    check_all("float_fma_saturate", {fmt.name: (block, {"a": a, "b": b, "c": c}, expected)})


def test_latency():
    assert [FloatFma(fmt=fmt).latency for fmt in ARITHMETIC] == [8, 7, 7, 7, 7]
