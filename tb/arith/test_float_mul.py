# amaranth: UnusedElaboratable=no
"""Floating-point multiplier in Verilator: every pair of bytes, a million pairs and the corners of wider formats, both modes."""

import numpy as np
import pytest

from hw.arith.float_mul import FloatMultiply
from hw.elements import FP16, FP32
from sw.golden.arith.floating import decode, float_mul
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, BYTES, operands

MODES = [(fmt, subnormals) for fmt in ARITHMETIC for subnormals in (True, False)]


def test_products():
    cases = {}
    for seed, (fmt, subnormals) in enumerate(MODES):
        a, b = operands(fmt, 2, 1_000_000, seed)
        expected = float_mul(fmt, a, b, subnormals=subnormals)
        for pipelined in (False, True):
            block = FloatMultiply(fmt=fmt, subnormals=subnormals, pipelined=pipelined)
            cases[mode_name(fmt, subnormals) + " pipelined" * pipelined] = block, {"a": a, "b": b}, expected
    check_all("float_mul", cases)


def test_saturated_products():
    cases = {}
    for seed, fmt in enumerate(BYTES):
        a, b = operands(fmt, 2, 0, seed)
        expected = float_mul(fmt, a, b, subnormals=True, saturate=True)
        assert not np.isinf(decode(fmt, expected)).any()
        cases[fmt.name] = FloatMultiply(fmt=fmt, subnormals=True, saturate=True), {"a": a, "b": b}, expected
    check_all("float_mul_saturate", cases)


@pytest.mark.parametrize("subnormals", [False, True])
def test_around_the_smallest_normal_value(subnormals):
    rng = np.random.default_rng(5)
    exponents = rng.integers(1, 127, 100_000)                       # of pairs whose products lie between 2^-127 and 2^-125
    a = rng.integers(0, 1 << 23, exponents.size) | exponents << 23 | rng.integers(0, 2, exponents.size) << 31
    b = rng.integers(0, 1 << 23, exponents.size) | 127 - exponents << 23
    # 2^-126 · (1 − 2^-24), and products that round up to 2^-126
    a = np.concatenate([a, [0x0080_0000, 0x0080_0000, 0x00FF_FFFF, 0x00FF_FFFF]]).astype(np.uint64)
    b = np.concatenate([b, [0x3F7F_FFFF, 0x3F80_0000, 0x3F00_0000, 0x3F00_0001]]).astype(np.uint64)
    expected = float_mul(FP32, a, b, subnormals=subnormals)
    assert expected[-4:].tolist() == [0x0080_0000, 0x0080_0000, 0x0080_0000, 0x0080_0000] if subnormals else [0, 0x0080_0000] * 2
    below = decode(FP32, expected) == 0
    assert 0.2 < below.mean() < 0.9
    block = FloatMultiply(fmt=FP32, subnormals=subnormals)
    check_all(f"float_mul_{'subnormal' if subnormals else 'flushed'}", {"float32": (block, {"a": a, "b": b}, expected)})


def test_latency():
    assert FloatMultiply(fmt=FP32).latency == FloatMultiply.FLUSHED_LATENCY == 2
    assert FloatMultiply(fmt=FP32, subnormals=True).latency == 3
    found = [FloatMultiply(fmt=fmt, subnormals=mode, pipelined=True).latency for fmt in (FP32, FP16) for mode in (False, True)]
    assert found == [4, 5, 3, 4]
