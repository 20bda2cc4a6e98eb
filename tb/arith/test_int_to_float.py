# amaranth: UnusedElaboratable=no
"""Signed integer to floating point: every integer of small widths, random and corner integers of 32 bits."""

import random

import numpy as np
import pytest

from hw.arith.int_to_float import IntToFloat
from hw.elements import FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith.floating import int_to_float
from tb.arith.blocks import check_all
from tb.arith.pipeline import run_pipeline
from tb.arith.words import ARITHMETIC, FORMATS, TINY_FORMATS


def check(width: int, fmt: FloatFormat, integers: list[int], *, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Return the words that the block makes of `integers`, after comparing them with the golden model's."""
    got = run_pipeline(IntToFloat(width=width, fmt=fmt), {"i": integers}, stall=stall, seed=seed)
    assert got == int_to_float(fmt, integers).tolist()
    return got


def whole_range(width: int) -> list[int]:
    """Return all signed integers of `width` bits."""
    return list(range(-(1 << (width - 1)), 1 << (width - 1)))


@pytest.mark.parametrize("fmt", [*FORMATS, *TINY_FORMATS], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("width", [2, 3, 8])
def test_every_integer(width, fmt):
    check(width, fmt, whole_range(width), stall=0.1, seed=width)


def test_overflow_becomes_infinite():
    fmt = FloatFormat(name="e3m2", exponent_bits=3, mantissa_bits=2)
    got = check(9, fmt, whole_range(9))
    infinite = got.count(0b0_111_00) + got.count(0b1_111_00)
    assert infinite == sum(abs(i) >= 15 for i in whole_range(9))      # 14 is the largest value, 15 the tie above it


def test_half_precision_overflow():
    check(32, FP16, [65519, 65520, -65519, -65520, 65504, 1 << 30, -1 << 31])


@pytest.mark.parametrize("seed", [1, 2])
def test_32_bits_to_float32(seed):
    rng = random.Random(seed)
    edges = [sign * ((1 << bit) + delta) for bit in range(31) for delta in (-1, 0, 1) for sign in (1, -1)]
    ties = [(odd << shift) + (1 << (shift - 1)) for shift in range(1, 8) for odd in ((1 << 23) + 1, (1 << 23) + 2, (1 << 24) - 1)]
    integers = [0, (1 << 31) - 1, -(1 << 31), *edges, *(t for t in ties if t < 1 << 31),
                *(rng.getrandbits(32) - (1 << 31) >> rng.randrange(31) for _ in range(10_000))]
    got = check(32, FP32, integers, stall=0.02 * (seed - 1), seed=seed)
    assert got == np.array(integers, np.int32).astype(np.float32).view(np.uint32).tolist()
    assert sum(i.bit_length() > 24 for i in integers) > 1000          # those are rounded


def test_fixed_point():
    """Integers of every length, ties among them, to every format, over both ends of its exponent."""
    cases = {}
    for seed, fmt in enumerate(ARITHMETIC):
        rng = np.random.default_rng(seed)
        below = fmt.bias + fmt.mantissa_bits + 10
        for width, fraction_bits, saturate in ((60, 40, False), (32, 0, True), (24, below, False), (3, 2, False)):
            integers = rng.integers(-1 << width - 1, 1 << width - 1, 300_000) >> rng.integers(0, width, 300_000)
            low = rng.integers(0, width, integers.size)
            integers[::2] = (integers >> low << low)[::2]
            block = IntToFloat(width=width, fmt=fmt, fraction_bits=fraction_bits, saturate=saturate)
            expected = int_to_float(fmt, integers, fraction_bits=fraction_bits, saturate=saturate)
            cases[f"{width}.{fraction_bits} to {fmt.name}"] = block, {"i": integers}, expected
    check_all("int_to_float", cases, describe=str)


def test_bad_width():
    with pytest.raises(ConfigError, match=r"^IntToFloat\.width must be at least 2, not 1$"):
        IntToFloat(width=1, fmt=FP32)
