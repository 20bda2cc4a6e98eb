# amaranth: UnusedElaboratable=no
"""Reciprocals in Verilator: every word of up to 16 bits, a million of float32; errors, order, special arguments."""

import numpy as np
import pytest

from hw.arith.reciprocal import Reciprocal
from hw.elements import BF16, FP32
from sw.golden.arith.floating import decode
from sw.golden.arith.functions import reciprocal
from tb.arith.functions import arguments, check_function, ulps
from tb.arith.words import ARITHMETIC


def test_words():
    check_function("reciprocal", Reciprocal, reciprocal)


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_error(fmt):
    words = arguments(fmt, 6)
    with np.errstate(divide="ignore"):
        error = ulps(fmt, reciprocal(fmt, words, subnormals=True), 1 / decode(fmt, words, subnormals=True))
    assert 0.4 < error.max() < 0.85


def test_powers_of_two_are_exact():
    exponents = np.arange(-126, 128)
    words = (2.0**exponents).astype(np.float32).view(np.uint32)
    np.testing.assert_array_equal(decode(FP32, reciprocal(FP32, words, subnormals=True), subnormals=True), 2.0**-exponents)


def test_special_arguments():
    def of(subnormals, *values):
        words = np.array(values, np.float32).view(np.uint32)
        return [float(value) for value in decode(FP32, reciprocal(FP32, words, subnormals=subnormals), subnormals=True)]

    assert of(True, 0.0, -0.0, 1e-45, -1e-45) == [np.inf, -np.inf, np.inf, -np.inf]
    assert of(True, 2.0**-128, -2.0**127) == [np.inf, -2.0**-127]
    assert of(False, 2.0**-127, -2.0**-127, 2.0**127) == [np.inf, -np.inf, 0]
    assert of(True, 2.0**-127) == [2.0**127]
    assert [str(value) for value in of(True, np.inf, -np.inf, np.nan)] == ["0.0", "-0.0", "nan"]


def test_latency():
    assert [Reciprocal(fmt=fmt, subnormals=mode).latency for fmt in (FP32, BF16) for mode in (False, True)] == [6, 8, 4, 6]
