# amaranth: UnusedElaboratable=no
"""Floating point to signed integer: every word of small formats, random and corner words of the large ones."""

import random

import numpy as np
import pytest

from hw.arith.float_to_int import FloatToInt
from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith.floating import float_to_int
from tb.arith.blocks import check_all
from tb.arith.pipeline import run_pipeline
from tb.arith.words import BYTES, FORMATS, TINY_FORMATS, corners, operands, random_words

E5M4 = FloatFormat(name="e5m4", exponent_bits=5, mantissa_bits=4)


def check(width: int, fmt: FloatFormat, words: list[int], *, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Return the block's integers, after comparing them with the golden model's."""
    got = run_pipeline(FloatToInt(width=width, fmt=fmt), {"i": words}, stall=stall, seed=seed)
    integers = [word - (word >> (width - 1) << width) for word in got]
    assert integers == float_to_int(fmt, width, words).tolist()
    return integers


@pytest.mark.parametrize("fmt", [*TINY_FORMATS, E5M4], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("width", [2, 3, 4, 8, 13, 20])
def test_every_word(width, fmt):
    check(width, fmt, list(range(1 << fmt.bits)))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("width", [2, 8, 16, 24, 32])
def test_corners(width, fmt):
    one = 1 << fmt.mantissa_bits
    near = [word + delta for exponent in range(max(0, fmt.bias - 3), min(fmt.bias + width + 2, fmt.exponent_max))
            for word in (exponent * one, exponent * one + one // 2) for delta in (-1, 0, 1) if word + delta >= 0]
    words = [*corners(fmt), *near, *(word | 1 << (fmt.bits - 1) for word in near)]
    integers = check(width, fmt, words)
    if fmt is not FP16 or width <= 16:
        assert {-(1 << (width - 1)), (1 << (width - 1)) - 1} <= set(integers)


@pytest.mark.parametrize(("width", "fmt", "count", "stall"), [(8, FP32, 10_000, 0.0), (8, FP32, 2000, 0.2), (32, FP32, 4000, 0.0),
                                                              (8, BF16, 2000, 0.0), (8, FP16, 2000, 0.0)])
def test_random_words(width, fmt, count, stall):
    rng = random.Random(width)
    words = random_words(fmt, count, rng, spread=width + 2)
    integers = check(width, fmt, words, stall=stall, seed=width)
    assert sum(0 < abs(value) < (1 << (width - 1)) - 1 for value in integers) > count // 5


def test_every_tie_of_int8():
    words = [(127 + exponent) << 23 | mantissa << 15 for exponent in range(-2, 8) for mantissa in range(256)]
    integers = check(8, FP32, [*words, *(word | 1 << 31 for word in words)])
    assert set(integers) == set(range(-128, 128))


def test_fixed_point():
    """Every word of up to 16 bits, a million of float32: widths and points of all kinds, subnormal values where they count."""
    cases = {}
    e4m3, e5m2 = BYTES
    shapes = ((FP32, 34, 25), (FP32, 16, -4), (FP32, 50, 140), (FP32, 8, 100), (FP16, 43, 24), (FP16, 12, 20), (BF16, 40, 20),
              (e4m3, 20, 9), (e4m3, 4, -5), (e5m2, 34, 16), (e5m2, 8, 18))
    for fmt, width, fraction_bits in shapes:
        words = np.arange(1 << fmt.bits) if fmt.bits <= 16 else operands(fmt, 1, 1_000_000, width)[0]
        block = FloatToInt(width=width, fmt=fmt, fraction_bits=fraction_bits)
        expected = float_to_int(fmt, width, words, fraction_bits=fraction_bits)
        assert len(np.unique(expected)) > 10
        cases[f"{fmt.name} in {width}.{fraction_bits}"] = block, {"i": words}, expected
    check_all("float_to_int", cases, describe=str)


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"^FloatToInt\.width must be at least 2, not 1$"):
        FloatToInt(width=1, fmt=FP32)
    with pytest.raises(ConfigError, match=r"^FloatToInt\.fraction_bits must be at most bias \+ width - 3 = 20, not 21$"):
        FloatToInt(width=8, fmt=FP16, fraction_bits=21)
