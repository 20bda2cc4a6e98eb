# amaranth: UnusedElaboratable=no
"""Reciprocal square roots in Verilator: every word of up to 16 bits, a million of float32; errors, special arguments."""

import numpy as np
import pytest

from hw.arith.rsqrt import Rsqrt
from hw.elements import BF16, FP32
from sw.golden.arith.floating import decode
from sw.golden.arith.functions import rsqrt
from tb.arith.functions import arguments, check_function, ulps
from tb.arith.words import ARITHMETIC


def test_words():
    check_function("rsqrt", Rsqrt, rsqrt)


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_error(fmt):
    words = arguments(fmt, 7)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = ulps(fmt, rsqrt(fmt, words, subnormals=True), 1 / np.sqrt(decode(fmt, words, subnormals=True)))
    assert 0.4 < error.max() < 0.7


def test_powers_of_four_are_exact():
    exponents = np.arange(-74, 64)
    words = (4.0**exponents).astype(np.float32).view(np.uint32)
    np.testing.assert_array_equal(decode(FP32, rsqrt(FP32, words, subnormals=True)), 2.0**-exponents)


def test_special_arguments():
    def of(subnormals, *values):
        words = np.array(values, np.float32).view(np.uint32)
        return [str(float(value)) for value in decode(FP32, rsqrt(FP32, words, subnormals=subnormals), subnormals=True)]

    assert of(True, 0.0, -0.0, np.inf, -np.inf, np.nan, -1, -1e-45) == ["inf", "-inf", "0.0", "nan", "nan", "nan", "nan"]
    assert of(False, -1e-45, 2.0**-127) == ["-inf", "inf"]


def test_latency():
    assert [Rsqrt(fmt=fmt, subnormals=mode).latency for fmt in (FP32, BF16) for mode in (False, True)] == [6, 8, 4, 6]
