# amaranth: UnusedElaboratable=no
"""Powers of two in Verilator: every word of up to 16 bits, a million of float32; errors, order, special arguments."""

import numpy as np
import pytest

from hw.arith.exp2 import Exp2
from hw.arith.exp2_fixed import Exp2Fixed
from hw.elements import BF16, FP16, FP32
from hw.errors import ConfigError
from sw.golden.arith.floating import decode, encode
from sw.golden.arith.functions import exp2, exp2_fixed
from tb.arith.blocks import check_all
from tb.arith.functions import arguments, check_function, ulps
from tb.arith.words import ARITHMETIC


def test_words():
    check_function("exp2", Exp2, exp2)


def test_fixed_point():
    cases = {}
    shapes = ((FP32, 16, 8, {}), (FP32, 34, 25, {"subnormals": True}), (BF16, 12, 6, {}), (BF16, 5, 4, {"saturate": True}),
              (FP16, 16, 12, {"degree": 2, "segments_log2": 3}))
    for fmt, width, fraction_bits, options in shapes:
        block = Exp2Fixed(width=width, fraction_bits=fraction_bits, fmt=fmt, **options)
        if width <= 16:
            integers = np.arange(-1 << width - 1, 1 << width - 1)
        else:
            integers = np.random.default_rng(width).integers(-1 << width - 1, 1 << width - 1, 300_000)
        expected = exp2_fixed(fmt, integers, fraction_bits=fraction_bits, **options)
        key = f"{fmt.name} of {width}.{fraction_bits}"
        cases[key] = block, {"i": integers, "nan": 0}, expected
        again = Exp2Fixed(width=width, fraction_bits=fraction_bits, fmt=fmt, **options)
        cases[key + " nan"] = again, {"i": integers[:10], "nan": 1}, np.full(10, encode(fmt, np.nan), np.uint64)
    check_all("exp2_fixed", cases, describe=str)


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_error_and_order(fmt):
    words = arguments(fmt, 5)
    values = decode(fmt, words, subnormals=True)
    with np.errstate(over="ignore", invalid="ignore"):
        error = ulps(fmt, exp2(fmt, words, subnormals=True), np.exp2(values))
    assert 0.4 < error.max() < 0.8
    order = np.argsort(values[~np.isnan(values)], kind="stable")
    results = decode(fmt, exp2(fmt, words, subnormals=True, saturate=True), subnormals=True)[~np.isnan(values)][order]
    assert np.all(np.diff(results) >= 0)


def test_integers_are_exact():
    integers = np.arange(-149, 128)
    words = integers.astype(np.float32).view(np.uint32)
    np.testing.assert_array_equal(decode(FP32, exp2(FP32, words, subnormals=True), subnormals=True), 2.0**integers)


def test_special_arguments():
    def of(*values):
        words = np.array(values, np.float32).view(np.uint32)
        return [float(value) for value in decode(FP32, exp2(FP32, words, subnormals=True), subnormals=True)]

    assert of(-np.inf, -1e30, -151, 0.0, -0.0, 1e-45) == [0, 0, 0, 1, 1, 1]
    assert of(np.inf, 3e38, 128, -149) == [np.inf, np.inf, np.inf, 2.0**-149]
    assert np.isnan(of(np.nan)).all()


def test_latency():
    assert [Exp2(fmt=fmt).latency for fmt in (FP32, FP16, BF16)] == [8, 6, 6]
    assert Exp2(fmt=FP32, degree=1, segments_log2=6).latency == 6
    assert Exp2Fixed(width=16, fraction_bits=8, fmt=FP32).latency == 6


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"^Exp2Fixed\.fraction_bits must be between 1 and 9 for bfloat16, not 10$"):
        Exp2Fixed(width=16, fraction_bits=10, fmt=BF16)
    with pytest.raises(ConfigError, match=r"^Exp2Fixed\.width must be between fraction_bits \+ 1 and fraction_bits \+ 12 = 20, "
                                          r"not 8$"):
        Exp2Fixed(width=8, fraction_bits=8, fmt=FP32)
