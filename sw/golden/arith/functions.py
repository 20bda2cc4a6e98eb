"""Powers of two, reciprocals, reciprocal square roots and distribution functions of words, by the tables of `hw.curves`."""

import functools

import numpy as np
import numpy.typing as npt

from hw.curves import Curve, curve
from hw.elements import FloatFormat
from sw.golden.arith.floating import Integers, Words, decode, encode, float_to_int

__all__ = ["curve_values", "exp2", "exp2_fixed", "exp2_integer_bits", "normal", "reciprocal", "rsqrt", "sigmoid"]


@functools.cache
def _columns(table: Curve) -> list[Integers]:
    return [np.array(column, np.int64) for column in zip(*table.coefficients, strict=True)]


def curve_values(table: Curve, arguments: npt.ArrayLike) -> Integers:
    """Return the values of a curve, in units of 2^−fraction_bits.

    arguments: integers of index_bits + offset_bits bits, any shape → int64 of that shape.
    """
    arguments = np.asarray(arguments, dtype=np.int64)
    index, offset = arguments >> table.offset_bits, arguments & (1 << table.offset_bits) - 1
    *columns, top = _columns(table)
    value = top[index]
    for column in reversed(columns):
        value = (value * offset >> table.offset_bits) + column[index]
    return value


def exp2_integer_bits(fmt: FloatFormat) -> int:
    """Return the integer bits, sign aside, of the fixed-point argument that reaches zero and infinity in `fmt`."""
    return (fmt.bias + fmt.mantissa_bits + 2).bit_length()


def exp2_fixed(fmt: FloatFormat, integers: npt.ArrayLike, *, fraction_bits: int, subnormals: bool = False, saturate: bool = False,
               degree: int | None = None, segments_log2: int | None = None) -> Words:
    """Return 2^(integers · 2^−fraction_bits) in `fmt`: signed integers of any shape → uint64 of that shape."""
    integers = np.asarray(integers, dtype=np.int64)
    table = curve("exp2", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
    pad = table.index_bits + table.offset_bits - fraction_bits
    value = curve_values(table, (integers & (1 << fraction_bits) - 1) << pad).astype(np.float64)
    exponent = np.maximum(integers >> fraction_bits, -1000).astype(np.int32)
    return encode(fmt, np.ldexp(value, exponent - table.fraction_bits), subnormals=subnormals, saturate=saturate)


def exp2(fmt: FloatFormat, words: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False, degree: int | None = None,
         segments_log2: int | None = None) -> Words:
    """Return 2^words: the argument is first rounded to mantissa_bits + 2 fraction bits. Any shape → uint64 of that shape."""
    fraction_bits = fmt.mantissa_bits + 2
    fixed = float_to_int(fmt, 1 + exp2_integer_bits(fmt) + fraction_bits, words, fraction_bits=fraction_bits)
    result = exp2_fixed(fmt, fixed, fraction_bits=fraction_bits, subnormals=subnormals, saturate=saturate, degree=degree,
                        segments_log2=segments_log2)
    return np.where(np.isnan(decode(fmt, words)), encode(fmt, np.nan), result)


def _parts(fmt: FloatFormat, values: npt.NDArray[np.float64]) -> tuple[Integers, npt.NDArray[np.int32]]:
    """Return mantissa and exponent of |values|: (1 + mantissa · 2^−mantissa_bits) · 2^exponent; 0 and 0 of what is special."""
    ordinary = np.isfinite(values) & (values != 0)
    bits = np.where(ordinary, values, 1.0).view(np.int64)
    return bits >> 52 - fmt.mantissa_bits & (1 << fmt.mantissa_bits) - 1, ((bits >> 52 & 0x7FF) - 1023).astype(np.int32)


def reciprocal(fmt: FloatFormat, words: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False,
               degree: int | None = None, segments_log2: int | None = None) -> Words:
    """Return 1 / words; of a zero the infinity of its sign, and the other way round. Any shape → uint64 of that shape."""
    values = decode(fmt, words, subnormals=subnormals)
    table = curve("reciprocal", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
    mantissa, exponent = _parts(fmt, values)
    result = np.ldexp(curve_values(table, mantissa).astype(np.float64), -exponent - table.fraction_bits)
    result = np.where(values == 0, np.inf, np.where(np.isinf(values), 0.0, np.where(np.isnan(values), np.nan, result)))
    return encode(fmt, np.copysign(result, values), subnormals=subnormals, saturate=saturate)


def rsqrt(fmt: FloatFormat, words: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False,
          degree: int | None = None, segments_log2: int | None = None) -> Words:
    """Return 1 / √words: of a zero the infinity of its sign, of what is less NaN. Any shape → uint64 of that shape."""
    values = decode(fmt, words, subnormals=subnormals)
    table = curve("rsqrt", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
    mantissa, exponent = _parts(fmt, values)
    value = curve_values(table, (exponent & 1).astype(np.int64) << fmt.mantissa_bits | mantissa).astype(np.float64)
    result = np.ldexp(value, -(exponent >> 1) - table.fraction_bits)
    result = np.where(values == 0, np.copysign(np.inf, values), np.where(values == np.inf, 0.0, result))
    return encode(fmt, np.where((values < 0) | np.isnan(values), np.nan, result), subnormals=subnormals, saturate=saturate)


def sigmoid(fmt: FloatFormat, words: npt.ArrayLike, *, degree: int | None = None, segments_log2: int | None = None) -> Words:
    """Return 1 / (1 + e^−words), the logistic distribution function. Any shape → uint64 of that shape."""
    return _distribution(fmt, words, 0, degree, segments_log2)


def normal(fmt: FloatFormat, words: npt.ArrayLike, *, degree: int | None = None, segments_log2: int | None = None) -> Words:
    """Return Φ(words), the standard normal distribution function. Any shape → uint64 of that shape."""
    return _distribution(fmt, words, 1, degree, segments_log2)


def _distribution(fmt: FloatFormat, words: npt.ArrayLike, branch: int, degree: int | None, segments_log2: int | None) -> Words:
    values = decode(fmt, words, subnormals=True)
    table = curve("distribution", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2)
    steps = 1 << table.index_bits - 1 + table.offset_bits               # to the end of the table, at 16 or 8
    end = 16.0 / (1 << branch)
    distance = np.abs(np.where(np.isnan(values), 0.0, values))
    argument = np.minimum(np.rint(np.minimum(distance, end) / end * steps), steps - 1).astype(np.int64)
    beyond = np.where(distance < end, np.maximum(curve_values(table, branch * steps + argument), 0), 0)
    share = np.where(np.signbit(values), beyond, (1 << table.fraction_bits) - beyond) * 2.0**-table.fraction_bits
    return encode(fmt, np.where(np.isnan(values), np.nan, share), subnormals=True)
