"""The golden models of floating point against numpy, `ml_dtypes`, and sums and roundings done in integers."""

import numpy as np
import pytest

from hw.elements import BF16, ELEMENTS, FP16, FP32, FloatFormat, Specials
from hw.errors import ConfigError
from sw.golden.arith.comparison import float_compare, float_max, float_min
from sw.golden.arith.floating import (
    decode,
    encode,
    float_add,
    float_convert,
    float_fma,
    float_mul,
    float_scale,
    float_sub,
    float_to_int,
    int_to_float,
    quiet_nan,
)
from tb.arith.words import ARITHMETIC, corners, nearest_word, numpy_type, operands, same_words

NAMED = [element for name in ("float32", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn", "float6_e3m2fn", "float6_e2m3fn",
                              "float4_e2m1fn") if isinstance(element := ELEMENTS[name], FloatFormat)]


def values_of(fmt: FloatFormat, words: np.ndarray) -> np.ndarray:
    """Return words as an array of numpy's type."""
    kind = numpy_type(fmt)
    return words.astype(f"u{kind.itemsize}").view(kind)


def some_words(fmt: FloatFormat, count: int, seed: int) -> np.ndarray:
    """Return random words; all of them when there are no more than 2¹⁶."""
    if fmt.bits <= 16:
        return np.arange(1 << fmt.bits, dtype=np.uint64)
    return np.random.default_rng(seed).integers(0, 1 << fmt.bits, count, dtype=np.uint64)


@pytest.mark.parametrize("fmt", NAMED, ids=lambda fmt: fmt.name)
def test_values_are_numpys(fmt):
    words = some_words(fmt, 300_000, 1)
    with np.errstate(invalid="ignore"):                                     # signalling NaNs
        expected = values_of(fmt, words).astype(np.float64)
    got = decode(fmt, words, subnormals=True)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
    normal = np.abs(expected) >= 2.0**(1 - fmt.bias)
    flushed = decode(fmt, words)
    np.testing.assert_array_equal(flushed, np.where(normal | np.isnan(expected), expected, 0))
    np.testing.assert_array_equal(np.signbit(flushed), np.signbit(expected))


@pytest.mark.parametrize("fmt", NAMED, ids=lambda fmt: fmt.name)
def test_words_come_back(fmt):
    words = some_words(fmt, 300_000, 2)
    values = decode(fmt, words, subnormals=True)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(encode(fmt, values, subnormals=True)[number], words[number])
    assert np.all(encode(fmt, values, subnormals=True)[~number] == quiet_nan(fmt))


@pytest.mark.parametrize("fmt", NAMED, ids=lambda fmt: fmt.name)
def test_float32_converts_as_ml_dtypes_has_it(fmt):
    rng = np.random.default_rng(3)
    words = rng.integers(0, 1 << 32, 200_000, np.uint64)
    middle = rng.integers(127 - 30, 127 + 20, 200_000, np.uint64) << np.uint64(23) | words & np.uint64(0x807F_FFFF)
    ties = middle & np.uint64(0xFFFF_8000) | rng.integers(0, 3, middle.size, np.uint64)
    words = np.concatenate([np.array(corners(FP32), np.uint64), words, middle, ties])
    with np.errstate(all="ignore"):
        values = values_of(FP32, words)
        expected = values.astype(numpy_type(fmt))
    number = ~np.isnan(values)                                              # NaN in a format without it: ours is +0
    np.testing.assert_array_equal(float_convert(FP32, fmt, words)[number], same_words(fmt, expected)[number])
    assert np.all(float_convert(FP32, fmt, words)[~number] == quiet_nan(fmt))


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_sums_and_products_are_ieee_754(fmt):
    a, b = operands(fmt, 2, 300_000, 4)
    with np.errstate(all="ignore"):
        x, y = values_of(fmt, a), values_of(fmt, b)
        expected = {float_add: x + y, float_sub: x - y, float_mul: x * y}
    for operation, values in expected.items():
        assert values.dtype == numpy_type(fmt)
        np.testing.assert_array_equal(operation(fmt, a, b, subnormals=True), same_words(fmt, values), operation.__name__)


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_without_subnormals_only_small_words_differ(fmt):
    a, b = operands(fmt, 2, 200_000, 5)
    least = 2.0**(1 - fmt.bias)
    for operation, exact in ((float_add, np.add), (float_mul, np.multiply)):
        flushed, gradual = operation(fmt, a, b), operation(fmt, a, b, subnormals=True)
        x, y = decode(fmt, a, subnormals=True), decode(fmt, b, subnormals=True)
        with np.errstate(invalid="ignore"):
            result = np.abs(exact(x, y))
        small = (np.abs(x) < least) & (x != 0) | (np.abs(y) < least) & (y != 0) | (result < least) & (result != 0)
        np.testing.assert_array_equal(flushed[~small], gradual[~small])
        values = decode(fmt, flushed, subnormals=True)
        assert not np.any((np.abs(values) < least) & (values != 0))
        assert np.any(flushed != gradual)


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_fused_sums_against_integers(fmt):
    """Terms as multiples of the smallest product, which Python's integers hold."""
    a, b, c = operands(fmt, 3, 6000, 6)
    rng = np.random.default_rng(6)
    chosen = rng.permutation(a.size)[:6000]
    a, b, c = a[chosen], b[chosen], c[chosen]
    c[::2] = float_mul(fmt, a, b)[::2] ^ np.uint64(1 << (fmt.bits - 1))             # what rounding has lost
    values = [decode(fmt, words, subnormals=True) for words in (a, b, c)]
    with np.errstate(invalid="ignore"):
        special = ~np.isfinite(values[0] * values[1] + values[2])
    units = fmt.bias + fmt.mantissa_bits - 1
    got = float_fma(fmt, a, b, c, subnormals=True)
    rounded = 0
    for index in np.flatnonzero(~special):
        x, y, z = (int(np.ldexp(value[index], units)) for value in values)
        total = x * y + (z << units)
        zero_sign = all(np.signbit(v) for v in (values[0][index] * values[1][index], values[2][index]))
        assert got[index] == nearest_word(fmt, total, -2 * units, negative_zero=zero_sign), (a[index], b[index], c[index])
        rounded += total.bit_length() > fmt.mantissa_bits + 1
    assert rounded > 1000
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(got[special], encode(fmt, (values[0] * values[1] + values[2])[special], subnormals=True))


def test_fused_is_not_two_roundings():
    a = np.array([0x3F80_0001], np.uint64)                                      # (1 + 2^-23)² − (1 + 2^-22) = 2^-46
    assert float_fma(FP32, a, a, [0xBF80_0002]) == np.float32(2.0**-46).view(np.uint32)


def test_integers_become_numpys_float32():
    integers = np.random.default_rng(5).integers(-1 << 31, 1 << 31, 100_000)
    integers = np.concatenate([integers, integers >> 20, [0, -1 << 31, (1 << 31) - 1]])
    np.testing.assert_array_equal(int_to_float(FP32, integers), integers.astype(np.int32).astype(np.float32).view(np.uint32))


def test_long_integers_are_rounded_once():
    rng = np.random.default_rng(8)
    integers = rng.integers(-1 << 62, 1 << 62, 3000) >> rng.integers(0, 40, 3000)
    integers[:1000] = (integers[:1000] >> 40 << 40 | 1 << 38) + rng.integers(-1, 2, 1000)        # many of them ties
    expected = [nearest_word(FP32, int(value), -3) for value in integers]
    np.testing.assert_array_equal(int_to_float(FP32, integers, fraction_bits=3), expected)


@pytest.mark.parametrize("fraction_bits", [0, 5, -3])
@pytest.mark.parametrize("width", [4, 8, 32])
def test_integers_of_float32_are_numpys(width, fraction_bits):
    bits = some_words(FP32, 100_000, 7)
    with np.errstate(invalid="ignore"):                                     # signalling NaNs
        value = values_of(FP32, bits).astype(np.float64) * 2.0**fraction_bits
    expected = np.clip(np.rint(np.nan_to_num(value, nan=0.0)), -2.0**(width - 1), 2.0**(width - 1) - 1)
    np.testing.assert_array_equal(float_to_int(FP32, width, bits, fraction_bits=fraction_bits), expected)


@pytest.mark.parametrize("fmt", [FP32, FP16, BF16], ids=lambda fmt: fmt.name)
def test_scaling_is_ldexp(fmt):
    words = some_words(fmt, 100_000, 9)
    with np.errstate(all="ignore"):
        values = values_of(fmt, words).astype(np.float64)
        for n in (-40, -3, 0, 1, 17):
            expected = np.ldexp(values, n).astype(numpy_type(fmt))
            np.testing.assert_array_equal(float_scale(fmt, words, n, subnormals=True), same_words(fmt, expected))


@pytest.mark.parametrize("fmt", ARITHMETIC, ids=lambda fmt: fmt.name)
def test_order_is_numpys(fmt):
    a, b = operands(fmt, 2, 100_000, 10)
    with np.errstate(invalid="ignore"):
        x, y = values_of(fmt, a).astype(np.float64), values_of(fmt, b).astype(np.float64)
    less, equal, greater, unordered = float_compare(fmt, a, b, subnormals=True)
    for got, expected in ((less, x < y), (equal, x == y), (greater, x > y), (unordered, np.isnan(x) | np.isnan(y))):
        np.testing.assert_array_equal(got, expected)
    for function, numbers, either in ((float_min, np.fmin, np.minimum), (float_max, np.fmax, np.maximum)):
        distinct = ~((x == 0) & (y == 0))                                   # numpy does not order zeros
        for number, oracle in ((True, numbers), (False, either)):
            got = decode(fmt, function(fmt, a, b, subnormals=True, number=number), subnormals=True)
            np.testing.assert_array_equal(got[distinct], oracle(x, y)[distinct])
    zero, sign = np.uint64(0), np.uint64(1 << (fmt.bits - 1))
    assert {int(float_min(fmt, p, q)) for p, q in ((zero, sign), (sign, zero))} == {int(sign)}
    assert {int(float_max(fmt, p, q)) for p, q in ((zero, sign), (sign, zero))} == {0}


def test_special_words():
    assert float_mul(FP32, 0x7F80_0000, 0x8000_0000) == 0x7FC0_0000           # Inf · −0
    assert float_mul(FP32, 0xFF80_0000, 0x0000_0001) == 0x7FC0_0000           # −Inf · subnormal
    assert float_mul(FP32, 0xFF80_0000, 0x0000_0001, subnormals=True) == 0xFF80_0000
    assert float_mul(FP32, 0xFFC0_1234, 0x3F80_0000) == 0x7FC0_0000           # NaN · 1
    assert float_mul(FP32, 0x7F80_0000, 0xBF80_0000) == 0xFF80_0000           # Inf · −1
    assert float_mul(FP32, 0x8000_0001, 0x3F80_0000) == 0x8000_0000           # −subnormal · 1
    assert float_mul(FP16, 0x7BFF, 0x7BFF, saturate=True) == 0x7BFF


def test_formats_without_infinity_or_nan():
    e4m3 = ELEMENTS["float8_e4m3fn"]
    e2m1 = ELEMENTS["float4_e2m1fn"]
    assert encode(e4m3, [464.0, 465.0, -465.0, -np.inf]).tolist() == [0x7E, 0x7F, 0x7F, 0x7F]
    assert encode(e4m3, [465.0, -np.inf, np.nan], saturate=True).tolist() == [0x7E, 0xFE, 0x7F]
    assert encode(e2m1, [100.0, -np.inf, np.nan]).tolist() == [0x7, 0xF, 0]


def test_the_integer_oracle_knows_numpys_floats():
    rng = np.random.default_rng(11)
    for fmt in (FP32, FP16, BF16):
        some = rng.integers(-1 << 40, 1 << 40, 2000).tolist(), rng.integers(-190, 120, 2000).tolist()
        for units, lsb in zip(*some, strict=True):
            with np.errstate(over="ignore"):
                expected = np.ldexp(float(units), lsb).astype(numpy_type(fmt))
            assert nearest_word(fmt, units, lsb) == int(same_words(fmt, np.array([expected]))[0])


@pytest.mark.parametrize(("field", "value", "low", "high"), [("exponent_bits", 0, 1, 11), ("exponent_bits", 12, 1, 11),
                                                             ("mantissa_bits", -1, 0, 52), ("mantissa_bits", "x", 0, 52)])
def test_bad_format(field, value, low, high):
    fields = {"name": "odd", "exponent_bits": 5, "mantissa_bits": 10} | {field: value}
    with pytest.raises(ConfigError, match=rf"^FloatFormat\.{field} must be an integer between {low} and {high}, not {value!r}$"):
        FloatFormat(**fields)


def test_named_formats_are_of_all_kinds():
    assert {fmt.specials for fmt in NAMED} == set(Specials)
