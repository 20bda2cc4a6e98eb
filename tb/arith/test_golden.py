"""The golden models of floating point against numpy's own float32 and float16 (hardware IEEE 754)."""

import numpy as np
import pytest

from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith.floating import decode, encode, float_mul, float_to_int, int_to_float

NUMPY = ((FP32, np.float32, np.uint32), (FP16, np.float16, np.uint16))
NAMES = ["float32", "float16"]


def words(fmt: FloatFormat, count: int, seed: int) -> np.ndarray:
    """Return random words; all of them when there are no more than 2¹⁶."""
    if fmt.bits <= 16:
        return np.arange(1 << fmt.bits, dtype=np.uint64)
    return np.random.default_rng(seed).integers(0, 1 << fmt.bits, count, dtype=np.uint64)


@pytest.mark.parametrize(("fmt", "kind", "word"), NUMPY, ids=NAMES)
def test_decode_is_numpys_value_but_for_subnormal_words(fmt, kind, word):
    bits = words(fmt, 100_000, 1)
    with np.errstate(invalid="ignore"):                                     # signalling NaNs
        value = bits.astype(word).view(kind).astype(np.float64)
    subnormal = (np.abs(value) < float(np.finfo(kind).tiny)) & (value != 0)
    assert subnormal.any()
    np.testing.assert_array_equal(decode(fmt, bits)[~subnormal], value[~subnormal])
    assert np.all(decode(fmt, bits)[subnormal] == 0)
    assert np.array_equal(np.signbit(decode(fmt, bits)[subnormal]), np.signbit(value[subnormal]))


@pytest.mark.parametrize(("fmt", "kind", "word"), NUMPY, ids=NAMES)
def test_products_are_numpys_but_for_subnormal_ones(fmt, kind, word):
    a, b = words(fmt, 200_000, 2), np.random.default_rng(3).permutation(words(fmt, 200_000, 4))
    with np.errstate(all="ignore"):
        x, y = a.astype(word).view(kind), b.astype(word).view(kind)
        product = x * y
    tiny = float(np.finfo(kind).tiny)
    exact = np.abs(decode(fmt, a) * decode(fmt, b))
    flushed = (exact <= tiny) | (np.abs(x) < tiny) | (np.abs(y) < tiny)         # where IEEE 754 has subnormal values
    ordinary = ~flushed & ~np.isnan(product)
    assert ordinary.sum() > len(a) // 10
    assert np.isinf(product[ordinary]).any()
    np.testing.assert_array_equal(float_mul(fmt, a, b)[ordinary], product.view(word)[ordinary])
    zeros = flushed & (exact < tiny * (1 - 2.0**-(fmt.mantissa_bits + 1)))
    assert zeros.any()
    assert np.all(decode(fmt, float_mul(fmt, a, b)[zeros]) == 0)
    quiet = int(np.array(np.nan, kind).view(word))
    assert np.all(float_mul(fmt, a, b)[np.isnan(product) & ~flushed] == quiet)


def test_integers_become_numpys_float32():
    integers = np.random.default_rng(5).integers(-1 << 31, 1 << 31, 100_000)
    integers = np.concatenate([integers, integers >> 20, [0, -1 << 31, (1 << 31) - 1]])
    np.testing.assert_array_equal(int_to_float(FP32, integers), integers.astype(np.int32).astype(np.float32).view(np.uint32))


def test_encode_to_bfloat16_is_the_add_and_truncate_rule():
    bits = words(FP32, 100_000, 6)
    bits = bits[(bits >> 23 & 255 > 0) & (bits >> 23 & 255 < 254)]
    expected = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    np.testing.assert_array_equal(encode(BF16, decode(FP32, bits)), expected)


@pytest.mark.parametrize("width", [4, 8, 32])
def test_integers_of_float32_are_numpys(width):
    bits = words(FP32, 100_000, 7)
    with np.errstate(invalid="ignore"):                                     # signalling NaNs
        value = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    expected = np.clip(np.rint(np.nan_to_num(value, nan=0.0)), -2.0**(width - 1), 2.0**(width - 1) - 1)
    np.testing.assert_array_equal(float_to_int(FP32, width, bits), expected)


def test_special_words():
    assert float_mul(FP32, 0x7F80_0000, 0x8000_0000) == 0x7FC0_0000           # Inf · −0
    assert float_mul(FP32, 0xFF80_0000, 0x0000_0001) == 0x7FC0_0000           # −Inf · subnormal
    assert float_mul(FP32, 0xFFC0_1234, 0x3F80_0000) == 0x7FC0_0000           # NaN · 1
    assert float_mul(FP32, 0x7F80_0000, 0xBF80_0000) == 0xFF80_0000           # Inf · −1
    assert float_mul(FP32, 0x8000_0001, 0x3F80_0000) == 0x8000_0000           # −subnormal · 1


@pytest.mark.parametrize(("field", "value", "low", "high"), [("exponent_bits", 0, 1, 11), ("exponent_bits", 12, 1, 11),
                                                             ("mantissa_bits", -1, 0, 52), ("mantissa_bits", "x", 0, 52)])
def test_bad_format(field, value, low, high):
    fields = {"name": "odd", "exponent_bits": 5, "mantissa_bits": 10} | {field: value}
    with pytest.raises(ConfigError, match=rf"^FloatFormat\.{field} must be an integer between {low} and {high}, not {value!r}$"):
        FloatFormat(**fields)
