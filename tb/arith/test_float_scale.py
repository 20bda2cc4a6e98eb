# amaranth: UnusedElaboratable=no
"""Multiplication by powers of two in Verilator: every word of up to 16 bits, a million of float32, all distances, both modes."""

import numpy as np
import pytest

from hw.arith.float_scale import FloatScale
from hw.elements import FP32
from hw.errors import ConfigError
from sw.golden.arith.floating import decode, float_scale
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, operands


@pytest.mark.parametrize("saturate", [False, True])
def test_scaled_words(saturate):
    cases = {}
    for seed, fmt in enumerate(ARITHMETIC):
        rng = np.random.default_rng(seed)
        words = np.tile(np.arange(1 << fmt.bits, dtype=np.uint64), 8) if fmt.bits <= 16 else operands(fmt, 1, 1_000_000, seed)[0]
        for exponent_width in (4, 9):
            n = rng.integers(-1 << exponent_width - 1, 1 << exponent_width - 1, words.size)
            for subnormals in (True, False):
                options = {"subnormals": subnormals, "saturate": saturate}
                block = FloatScale(fmt=fmt, exponent_width=exponent_width, **options)
                expected = float_scale(fmt, words, n, **options)
                cases[f"{mode_name(fmt, subnormals)} by {exponent_width} bits"] = block, {"i": words, "n": n}, expected
    check_all(f"float_scale_{saturate:d}", cases, describe=str)


def test_an_addition_to_the_bits_where_nothing_leaves_its_range():
    words = operands(FP32, 1, 100_000, 3)[0]
    exponent = words >> np.uint64(23) & np.uint64(255)
    for n in (-20, -5, -1, 3):
        inside = (exponent > 20) & (exponent < 250)
        added = (words[inside].astype(np.int64) + (n << 23)).astype(np.uint64)
        np.testing.assert_array_equal(float_scale(FP32, words[inside], n), added)
    assert decode(FP32, float_scale(FP32, 0, -1)) == 0              # where adding to the bits gives −Inf


def test_latency():
    assert FloatScale(fmt=FP32, exponent_width=8).latency == 1
    assert FloatScale(fmt=FP32, exponent_width=8, subnormals=True).latency == 2


@pytest.mark.parametrize("width", [1, 11])
def test_bad_width(width):
    with pytest.raises(ConfigError, match=rf"^FloatScale\.exponent_width must be between 2 and 10, not {width}$"):
        FloatScale(fmt=FP32, exponent_width=width)
