"""Floating-point adder in Verilator: every pair of bytes, a million pairs and the corners of wider formats, both modes."""

import numpy as np

from hw.arith.float_add import FloatAdd
from sw.golden.arith.floating import decode, float_add, float_sub
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, BYTES, operands

MODES = [(fmt, subnormals) for fmt in ARITHMETIC for subnormals in (True, False)]


def test_sums_and_differences():
    cases = {}
    for seed, (fmt, subnormals) in enumerate(MODES):
        a, b = operands(fmt, 2, 1_000_000, seed)
        subtract = np.random.default_rng(seed).integers(0, 2, a.size)
        if fmt in BYTES:                                            # both of every pair
            a, b, subtract = np.tile(a, 2), np.tile(b, 2), np.repeat([0, 1], a.size)
        expected = np.where(subtract, float_sub(fmt, a, b, subnormals=subnormals), float_add(fmt, a, b, subnormals=subnormals))
        block = FloatAdd(fmt=fmt, subnormals=subnormals)
        cases[mode_name(fmt, subnormals)] = block, {"a": a, "b": b, "subtract": subtract}, expected
        exact = decode(fmt, expected, subnormals=True)
        assert all(np.any(found) for found in (exact == 0, np.isnan(exact)))
    check_all("float_add", cases)


def test_saturated_sums():
    cases = {}
    for seed, fmt in enumerate(BYTES):
        a, b = operands(fmt, 2, 0, seed)
        expected = float_add(fmt, a, b, subnormals=True, saturate=True)
        assert not np.isinf(decode(fmt, expected)).any()
        cases[fmt.name] = FloatAdd(fmt=fmt, subnormals=True, saturate=True), {"a": a, "b": b, "subtract": 0}, expected
    check_all("float_add_saturate", cases)


def test_latency():
    assert FloatAdd.latency == 6
