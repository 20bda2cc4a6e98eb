"""Floating-point multiplier: every pair of words of small formats, random and corner pairs of the large ones."""

import itertools
import random

import numpy as np
import pytest

from hw.arith.float_mul import FloatMultiply
from hw.elements import FP32, FloatFormat
from sw.golden.arith.floating import decode, float_mul
from tb.arith.pipeline import run_pipeline
from tb.arith.words import FORMATS, TINY_FORMATS, corners, random_words


def check(fmt: FloatFormat, a: list[int], b: list[int], *, stall: float = 0.0, seed: int = 0) -> list[int]:
    """Return the block's products, after comparing them with the golden model's."""
    got = run_pipeline(FloatMultiply(fmt=fmt), {"a": a, "b": b}, stall=stall, seed=seed)
    assert got == float_mul(fmt, a, b).tolist()
    return got


@pytest.mark.parametrize("fmt", TINY_FORMATS, ids=lambda fmt: fmt.name)
def test_every_pair(fmt):
    pairs = list(itertools.product(range(1 << fmt.bits), repeat=2))
    check(fmt, [a for a, _ in pairs], [b for _, b in pairs])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_corners(fmt):
    some = corners(fmt)
    half = [word for word in some if word >> (fmt.bits - 1) == 0]
    pairs = [*itertools.product(half, half), *itertools.product(some, random.Random(3).sample(some, 12))]
    check(fmt, [a for a, _ in pairs], [b for _, b in pairs])


@pytest.mark.parametrize(("fmt", "count", "spread", "stall"), [
    (FORMATS[0], 10_000, 40, 0.0), (FORMATS[0], 3000, None, 0.2), (FORMATS[1], 3000, 6, 0.0), (FORMATS[2], 3000, 70, 0.0)],
    ids=lambda value: getattr(value, "name", str(value)))
def test_random_pairs(fmt, count, spread, stall):
    rng = random.Random(count)
    a, b = (random_words(fmt, count, rng, spread=spread) for _ in range(2))
    got = np.array(check(fmt, a, b, stall=stall, seed=count))
    exact = decode(fmt, a) * decode(fmt, b)
    ordinary = np.isfinite(exact) & (exact != 0) & np.isfinite(decode(fmt, got)) & (decode(fmt, got) != 0)
    assert ordinary.sum() > count // 4
    assert np.all(np.abs(decode(fmt, got)[ordinary] / exact[ordinary] - 1) <= 2.0**-(fmt.mantissa_bits + 1))


def test_around_the_smallest_normal_value():
    rng = random.Random(5)
    exponents = [rng.randint(1, 126) for _ in range(4000)]     # of pairs whose products lie between 2^-127 and 2^-125
    a = [rng.getrandbits(32) & 0x807F_FFFF | exponent << 23 for exponent in exponents]
    b = [rng.getrandbits(23) | 127 - exponent << 23 for exponent in exponents]
    a += [0x0080_0000, 0x0080_0000, 0x00FF_FFFF, 0x00FF_FFFF]      # 2^-126 · (1 − 2^-24), and products that round up to 2^-126
    b += [0x3F7F_FFFF, 0x3F80_0000, 0x3F00_0000, 0x3F00_0001]
    got = check(FP32, a, b)
    assert got[-4:] == [0, 0x0080_0000, 0, 0x0080_0000]
    flushed = sum(word & 0x7FFF_FFFF == 0 for word in got)
    assert 500 < flushed < 3500
