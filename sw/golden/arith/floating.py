"""Floating-point conversion and multiplication without subnormal values, for every `FloatFormat`, in numpy float64.

Words are the stored bits as unsigned integers. float64 holds every value and every product here exactly (up to 25 mantissa bits),
so each operation is one exact computation and one rounding.
"""

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat

__all__ = ["decode", "encode", "float_mul", "float_to_int", "int_to_float"]

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def decode(fmt: FloatFormat, words: npt.ArrayLike) -> Values:
    """Return the values of `words`; a subnormal word is a zero of its sign.

    words: any shape → float64 of that shape.
    """
    words = np.asarray(words, dtype=np.uint64)
    mantissa = (words & np.uint64((1 << fmt.mantissa_bits) - 1)).astype(np.float64)
    exponent = ((words >> np.uint64(fmt.mantissa_bits)) & np.uint64(fmt.exponent_max)).astype(np.int64)
    negative = (words >> np.uint64(fmt.bits - 1)) & np.uint64(1) == 1
    value = np.ldexp(1.0 + mantissa / 2.0**fmt.mantissa_bits, exponent - fmt.bias)
    value = np.where(exponent == 0, 0.0, value)
    value = np.where(exponent == fmt.exponent_max, np.where(mantissa == 0, np.inf, np.nan), value)
    return np.where(negative, -value, value)


def encode(fmt: FloatFormat, values: npt.ArrayLike) -> Words:
    """Return the words nearest to `values`, ties to even.

    Rounding knows no bounds of the exponent; what is then below the smallest normal value becomes a zero, what is above the
    largest an infinity, each of its sign. Every NaN becomes the positive quiet one.

    values: float64 of any shape → uint64 of that shape.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values) & (values != 0)
    fraction, exponent = np.frexp(np.where(finite, np.abs(values), 1.0))        # 1/2 ≤ fraction < 1
    significand = np.rint(np.ldexp(fraction, fmt.mantissa_bits + 1))
    exponent = exponent - 1 + fmt.bias
    carried = significand == 2.0**(fmt.mantissa_bits + 1)
    significand = np.where(carried, 2.0**fmt.mantissa_bits, significand)
    exponent = exponent + carried
    mantissa = (significand - 2.0**fmt.mantissa_bits).astype(np.uint64)
    word = mantissa | np.clip(exponent, 0, fmt.exponent_max).astype(np.uint64) << np.uint64(fmt.mantissa_bits)
    word = np.where(~finite | (exponent < 1), np.uint64(0), word)
    infinite = np.isinf(values) | (finite & (exponent >= fmt.exponent_max))
    word = np.where(infinite, np.uint64(fmt.exponent_max << fmt.mantissa_bits), word)
    word |= np.signbit(values).astype(np.uint64) << np.uint64(fmt.bits - 1)
    quiet_nan = fmt.exponent_max << fmt.mantissa_bits | 1 << (fmt.mantissa_bits - 1)
    return np.where(np.isnan(values), np.uint64(quiet_nan), word)


def int_to_float(fmt: FloatFormat, integers: npt.ArrayLike) -> Words:
    """Return `integers` (magnitudes up to 2⁵³) as words of `fmt`: int64 of any shape → uint64 of that shape."""
    return encode(fmt, np.asarray(integers, dtype=np.int64).astype(np.float64))


def float_mul(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike) -> Words:
    """Return the products of words: two shapes that broadcast → uint64 of the common shape."""
    with np.errstate(invalid="ignore"):
        return encode(fmt, decode(fmt, a) * decode(fmt, b))


def float_to_int(fmt: FloatFormat, width: int, words: npt.ArrayLike) -> Integers:
    """Return the nearest signed integers of `width` bits, ties to even, saturated; NaN gives 0.

    words: any shape → int64 of that shape.
    """
    values = decode(fmt, words)
    limit = 2.0**(width - 1)
    return np.clip(np.rint(np.where(np.isnan(values), 0.0, values)), -limit, limit - 1).astype(np.int64)
