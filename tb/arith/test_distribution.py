# amaranth: UnusedElaboratable=no
"""Sigmoid and normal distribution function in Verilator: every word of up to 16 bits, a million of float32; errors, symmetry."""

import math

import numpy as np
import pytest

from hw.arith.distribution import Distribution
from hw.curves import curve
from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith.floating import decode
from sw.golden.arith.functions import curve_values, normal, sigmoid
from tb.arith.blocks import check_all
from tb.arith.functions import arguments
from tb.arith.words import ARITHMETIC, TINY_FORMATS

SIGMOID, NORMAL = 0, 1
GOLDEN = (sigmoid, normal)


def exact(which: int, x: np.ndarray) -> np.ndarray:
    """Return the function itself in float64."""
    with np.errstate(over="ignore"):
        if which == SIGMOID:
            return 1 / (1 + np.exp(-x))
        return np.array([math.erfc(z) for z in (-x / math.sqrt(2)).tolist()]) / 2


def words_of(*values: float) -> np.ndarray:
    return np.array(values, np.float32).view(np.uint32)


def test_words():
    """Every word of small formats with both functions, a million of float32 with either, and those next to segments' ends.

    The coarse table goes below zero.
    """
    coarse = curve("distribution", 23, degree=2, segments_log2=2)
    every = np.arange(0, 1 << coarse.index_bits + coarse.offset_bits, 1 << 10)
    assert curve_values(coarse, every).min() < -(1 << coarse.fraction_bits - 20)
    cases = {}
    ends = words_of(*(sign * end for sign in (1, -1) for end in (0.125, 0.25, 4, 5, 8, 16))).astype(np.uint64)
    beside = (ends[:, None] + np.arange(-4, 5).astype(np.uint64)).ravel()
    shapes = [(fmt, {}) for fmt in ARITHMETIC] + [(FP32, {"degree": 2, "segments_log2": 2})]
    for seed, (fmt, shape) in enumerate(shapes):
        words = arguments(fmt, seed)
        select = np.random.default_rng(seed).integers(0, 2, words.size)
        more = beside if fmt is FP32 else words
        words, select = np.concatenate([words, more, more]), np.concatenate([select, 0 * more, 0 * more + 1]).astype(np.int64)
        expected = np.where(select, normal(fmt, words, **shape), sigmoid(fmt, words, **shape))
        cases[f"{fmt.name} {shape}"] = Distribution(fmt=fmt, **shape), {"i": words, "select": select}, expected
    check_all("distribution", cases)


@pytest.mark.parametrize("which", [SIGMOID, NORMAL])
def test_error_and_order_of_float32(which):
    words = np.concatenate([arguments(FP32, 5), np.linspace(-17, 17, 300_001, dtype=np.float32).view(np.uint32)])
    values = decode(FP32, words, subnormals=True)
    number = ~np.isnan(values)
    x = np.sort(values[number])
    results = decode(FP32, GOLDEN[which](FP32, x.astype(np.float32).view(np.uint32)))
    error = np.abs(results - exact(which, x))
    bound = (-21.5, -22.5)[which]
    assert bound - 0.3 < math.log2(error.max()) < bound
    assert np.diff(results).min() >= -(2.0**-24)                        # rises, but for a last bit
    assert np.isnan(decode(FP32, GOLDEN[which](FP32, words[~number]))).all()
    finite = np.isfinite(x)
    product = np.abs(x[finite] * (results - exact(which, x))[finite])
    assert product.max() < 2.0**-19                                # SiLU and GELU


@pytest.mark.parametrize(("fmt", "bound"), [(FP16, 2.0**-10.5), (BF16, 2.0**-7.5), *((fmt, 2.0**-3) for fmt in ARITHMETIC[3:])],
                         ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("which", [SIGMOID, NORMAL])
def test_error_of_small_formats(fmt, bound, which):
    words = np.arange(1 << fmt.bits)
    values = decode(fmt, words, subnormals=True)
    finite = np.isfinite(values)
    results = decode(fmt, GOLDEN[which](fmt, words[finite]), subnormals=True)
    assert bound / 3 < np.abs(results - exact(which, values[finite])).max() < bound


@pytest.mark.parametrize("which", [SIGMOID, NORMAL])
def test_symmetry(which):
    """1 − o(i) is o(−i), but for the rounding of the greater one."""
    words = arguments(FP32, 6) & 0x7FFF_FFFF
    above, below = (decode(FP32, GOLDEN[which](FP32, words | sign)) for sign in (0, 1 << 31))
    number = ~np.isnan(above)
    assert np.abs(above + below - 1)[number].max() <= 2.0**-25
    assert np.abs(above + below - 1)[number].max() > 0


@pytest.mark.parametrize("which", [SIGMOID, NORMAL])
def test_special_arguments(which):
    def of(*values):
        return [float(value) for value in decode(FP32, GOLDEN[which](FP32, words_of(*values)), subnormals=True)]

    end = 16 >> which
    assert of(np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45) == [1, 0, 0.5, 0.5, 0.5, 0.5]
    assert of(end, -end, 3e38, -3e38, 1.5 * 2.0**127) == [1, 0, 1, 0, 1]
    assert np.isnan(of(np.nan, -np.nan)).all()
    assert of(-15.5)[0] > 0 or which == NORMAL


def test_latency():
    assert [Distribution(fmt=fmt).latency for fmt in (FP32, FP16, BF16)] == [11, 7, 7]
    assert Distribution(degree=2, segments_log2=8).latency == 9


@pytest.mark.parametrize("fmt", [*TINY_FORMATS[:2], FloatFormat(name="e3m12", exponent_bits=3, mantissa_bits=12)],
                         ids=lambda fmt: fmt.name)
def test_formats_without_a_tail(fmt):
    with pytest.raises(ConfigError, match=rf"^Distribution\.fmt must have values of 32 and more, not '{fmt.name}'$"):
        Distribution(fmt=fmt)
