# amaranth: UnusedElaboratable=no
"""Running sums in Verilator: exact windows against integers, narrow windows that round and overflow, special terms."""

import numpy as np
import pytest

from hw.arith.float_accumulate import FloatAccumulate, exact_window
from hw.elements import BF16, FP16, FP32
from hw.errors import ConfigError
from sw.golden.arith.accumulation import float_accumulate
from sw.golden.arith.floating import decode
from tb.arith.blocks import check_all
from tb.arith.words import BYTES, corners, nearest_word

# Format, target, width, fraction bits.
WINDOWS = (*((fmt, FP32, *exact_window(fmt, 12)) for fmt in (FP16, *BYTES)), (BYTES[0], FP16, *exact_window(BYTES[0], 8)),
           (FP32, FP32, 48, 24), (FP32, FP32, 60, 40), (BF16, BF16, 32, 16), (FP16, FP16, 20, 8), (FP16, FP32, 4, 0),
           (FP32, FP32, 16, 15))
COUNT = 200_000


def terms_of(fmt, width, fraction_bits, seed):
    """Return words and beginnings: most of terms of all sizes up to the window's; in a few runs, special ones."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << fmt.bits, COUNT, np.uint64)
    low, high = max(fmt.bias - fraction_bits - 2, 0), min(fmt.bias + width - fraction_bits, fmt.exponent_max - 1)
    exponents = np.uint64(fmt.exponent_max << fmt.mantissa_bits)
    words = words & ~exponents | rng.integers(low, high, COUNT, np.uint64) << np.uint64(fmt.mantissa_bits)
    some = np.array(corners(fmt), np.uint64)
    special = rng.random(COUNT) < 0.01
    words[special] = rng.choice(some, special.sum())
    first = rng.random(COUNT) < 0.05
    first[0] = True
    return words, first


def test_sums():
    cases = {}
    for seed, (fmt, target, width, fraction_bits) in enumerate(WINDOWS):
        words, first = terms_of(fmt, width, fraction_bits, seed)
        window = {"width": width, "fraction_bits": fraction_bits, "target": target}
        expected = float_accumulate(fmt, words, first, **window)
        block = FloatAccumulate(fmt=fmt, **window)
        cases[f"{fmt.name} in {width}.{fraction_bits}"] = block, {"i": words, "first": first}, expected
        values = decode(target, expected, subnormals=True)
        assert np.isfinite(values).mean() > 0.1
        assert np.isnan(values).any()
    check_all("float_accumulate", cases)


@pytest.mark.parametrize("fmt", [FP16, *BYTES], ids=lambda fmt: fmt.name)
def test_the_golden_model_is_the_exact_sum_rounded_once(fmt):
    width, fraction_bits = exact_window(fmt, 12)
    words, first = terms_of(fmt, width, fraction_bits, 9)
    words, first = words[:20_000], first[:20_000]
    total, expected = 0, []
    finite = np.isfinite(decode(fmt, words))
    words = np.where(finite, words, np.uint64(0))
    for value, start in zip(decode(fmt, words, subnormals=True), first, strict=True):
        total = (0 if start else total) + int(value * 2.0**fraction_bits)
        expected.append(nearest_word(FP32, total, -fraction_bits))
    np.testing.assert_array_equal(float_accumulate(fmt, words, first, width=width, fraction_bits=fraction_bits), expected)


def test_special_sums():
    def sums(*values):
        words = np.array(values, np.float32).view(np.uint32)
        got = float_accumulate(FP32, words, np.arange(len(words)) == 0, width=8, fraction_bits=4)       # −8 to 7.9375
        return got.astype(np.uint32).view(np.float32).tolist()

    assert sums(1, 0.03125, 0.09375, -0.0) == [1, 1, 1.125, 1.125]          # ties to even units of 1/16
    assert sums(7, 1, -7) == [7, np.inf, np.inf]
    assert sums(-7, -1, -0.0625, 5) == [-7, -8, -np.inf, -np.inf]
    assert sums(1e30, -1e30) == [np.inf, np.inf]                            # too large is not an infinite term
    assert str(sums(-np.inf, 1e30, np.inf, 1)) == "[-inf, -inf, nan, nan]"
    assert str(sums(np.nan, 1)) == "[nan, nan]"
    assert str(sums(-0.0, -0.0)) == "[0.0, 0.0]"


def test_exact_window_holds_the_extremes():
    width, fraction_bits = exact_window(FP16, 4)
    assert 2.0**-fraction_bits == float(np.finfo(np.float16).smallest_subnormal)
    assert 16 * 65504 * 2.0**fraction_bits < 2.0**(width - 1)
    assert 32 * 65504 * 2.0**fraction_bits >= 2.0**(width - 1)


def test_latency():
    assert FloatAccumulate.latency == 7


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"^FloatAccumulate\.width must be between 4 and 60, not 61$"):
        FloatAccumulate(fmt=FP16, width=61, fraction_bits=20)
    with pytest.raises(ConfigError, match=r"^FloatAccumulate\.fraction_bits must be between 0 and width - 1 = 31, not 32$"):
        FloatAccumulate(fmt=FP16, width=32, fraction_bits=32)
    with pytest.raises(ValueError, match=r"^first must be true of the first term, not False$"):
        float_accumulate(FP16, [0, 0], [False, True], width=8, fraction_bits=2)
