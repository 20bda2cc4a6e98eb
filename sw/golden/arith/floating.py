"""Floating-point words as values and back, and arithmetic on them, for every signed `FloatFormat` of up to 24 mantissa bits.

Words are the stored bits as unsigned integers. Values are float64, which holds every word and every product exactly. A sum that
float64 rounds is rounded once more to at most half as many bits, which gives the same word as one rounding would (Figueroa,
When is double rounding innocuous?, 1995); of a multiply-add that is not true, and its sum is rounded to odd first (Boldo and
Melquiond, Emulation of FMA and correctly rounded sums, 2008).

Where `subnormals` is false, a subnormal word is a zero of its sign, and results are rounded as if the exponent had no lower bound
and flushed to zero if they are then below the smallest normal value. Every NaN is the positive quiet one.
"""

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat, Specials

__all__ = ["decode", "encode", "float_add", "float_convert", "float_fma", "float_mul", "float_scale", "float_sub", "float_to_int",
           "int_to_float", "quiet_nan"]

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_SIGN = np.uint64(1 << 63)
_BIAS, _MANTISSA = 1023, 52         # of float64


def quiet_nan(fmt: FloatFormat) -> int:
    """Return the word of NaN; 0 where the format has none."""
    infinite = fmt.exponent_max << fmt.mantissa_bits
    return {Specials.IEEE: infinite | 1 << max(fmt.mantissa_bits - 1, 0), Specials.NAN: infinite | (1 << fmt.mantissa_bits) - 1,
            Specials.NONE: 0}[fmt.specials]


def decode(fmt: FloatFormat, words: npt.ArrayLike, *, subnormals: bool = False) -> Values:
    """Return the values of `words`.

    words: any shape → float64 of that shape.
    """
    words = np.asarray(words).astype(np.uint64)
    magnitude = words & np.uint64((1 << (fmt.bits - 1)) - 1)
    # The fields in float64's places are the value, but for the bias: multiplying by a power of two corrects it, exactly.
    value = (magnitude << np.uint64(_MANTISSA - fmt.mantissa_bits)).view(np.float64) * 2.0**(_BIAS - fmt.bias)
    if not subnormals:
        value *= magnitude >= np.uint64(1 << fmt.mantissa_bits)
    top = np.uint64(fmt.exponent_max << fmt.mantissa_bits)
    if fmt.specials is Specials.IEEE:
        special = magnitude >= top
        if special.any():
            value = np.where(special, np.where(magnitude == top, np.inf, np.nan), value)
    elif fmt.specials is Specials.NAN:
        value = np.where(magnitude == np.uint64(quiet_nan(fmt)), np.nan, value)
    sign = words >> np.uint64(fmt.bits - 1) << np.uint64(63)
    return (value.view(np.uint64) | sign).view(np.float64)


@np.errstate(over="ignore")
def encode(fmt: FloatFormat, values: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False) -> Words:
    """Return the words nearest to `values`, ties to even.

    A value that is too large after rounding becomes an infinity, the NaN of a format that has no infinity, or the largest value
    of one that has neither, or with `saturate`.

    values: float64 of any shape → uint64 of that shape.
    """
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    sign, magnitude = bits & _SIGN, bits & ~_SIGN
    shift = np.uint64(_MANTISSA - fmt.mantissa_bits)
    one = np.uint64(1)
    # Half of the last place that stays, less one if it is even, carries where it must.
    rounded = magnitude + (one << shift - one) - one + (magnitude >> shift & one) >> shift
    offset = (_BIAS - fmt.bias) << fmt.mantissa_bits
    smallest = np.uint64(offset + (1 << fmt.mantissa_bits))                     # normal word, with float64's bias
    word = np.where(rounded >= smallest, rounded - np.uint64(offset), np.uint64(0))
    if subnormals:
        small = np.uint64(1 - fmt.bias + _BIAS << _MANTISSA) > magnitude
        if small.any():
            # Adding a number whose last place is the smallest subnormal value rounds to multiples of that.
            anchor = np.float64(2.0**(1 - fmt.bias - fmt.mantissa_bits + _MANTISSA))
            sums = np.where(small, magnitude, np.uint64(0)).view(np.float64) + anchor
            word = np.where(small, sums.view(np.uint64) - anchor.view(np.uint64), word)
    infinite = np.uint64(fmt.exponent_max << fmt.mantissa_bits)
    reserved = {Specials.IEEE: 1 << fmt.mantissa_bits, Specials.NAN: 1, Specials.NONE: 0}[fmt.specials]
    largest = np.uint64((1 << (fmt.bits - 1)) - 1 - reserved)
    flat = fmt.specials is Specials.NONE or saturate
    beyond = word > largest
    if beyond.any():
        stand_in = largest if flat else infinite if fmt.specials is Specials.IEEE else np.uint64(quiet_nan(fmt))
        word = np.where(beyond, stand_in, word)
        if not flat and fmt.specials is Specials.NAN:
            sign = np.where(beyond, np.uint64(0), sign)
    word = word | sign >> np.uint64(64 - fmt.bits)
    nan = magnitude > np.uint64(0x7FF << _MANTISSA)
    return np.where(nan, np.uint64(quiet_nan(fmt)), word) if nan.any() else word


def float_convert(source: FloatFormat, target: FloatFormat, words: npt.ArrayLike, *, subnormals: bool = True,
                  saturate: bool = False) -> Words:
    """Return `words` of one format in another: any shape → uint64 of that shape."""
    return encode(target, decode(source, words, subnormals=subnormals), subnormals=subnormals, saturate=saturate)


def int_to_float(fmt: FloatFormat, integers: npt.ArrayLike, *, fraction_bits: int = 0, saturate: bool = False) -> Words:
    """Return `integers` · 2^−fraction_bits as words of `fmt`, subnormal ones included: int64 of any shape → uint64."""
    return encode(fmt, _to_odd(np.asarray(integers, dtype=np.int64)) * 2.0**-fraction_bits, subnormals=True, saturate=saturate)


def _to_odd(integers: Integers) -> Values:
    """Return integers as float64, those that it cannot hold rounded to odd at 53 bits or less."""
    low = integers & 0x7FF
    odd = integers - low + np.where(low, 0x400, 0)
    return np.where(np.abs(integers) >> 53, odd, integers).astype(np.float64)


def float_to_int(fmt: FloatFormat, width: int, words: npt.ArrayLike, *, fraction_bits: int = 0) -> Integers:
    """Return the signed integers of `width` bits (up to 53) nearest to words · 2^fraction_bits, ties to even, saturated.

    NaN gives 0; subnormal words count. words: any shape → int64 of that shape.
    """
    values = decode(fmt, words, subnormals=True) * 2.0**fraction_bits
    limit = 2.0**(width - 1)
    return np.clip(np.rint(np.where(np.isnan(values), 0.0, values)), -limit, limit - 1).astype(np.int64)


def float_mul(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False) -> Words:
    """Return the products of words: two shapes that broadcast → uint64 of the common shape."""
    with np.errstate(invalid="ignore"):
        product = decode(fmt, a, subnormals=subnormals) * decode(fmt, b, subnormals=subnormals)
    return encode(fmt, product, subnormals=subnormals, saturate=saturate)


def float_add(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False) -> Words:
    """Return the sums of words: two shapes that broadcast → uint64 of the common shape."""
    with np.errstate(invalid="ignore"):
        total = decode(fmt, a, subnormals=subnormals) + decode(fmt, b, subnormals=subnormals)
    return encode(fmt, total, subnormals=subnormals, saturate=saturate)


def float_sub(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, *, subnormals: bool = False, saturate: bool = False) -> Words:
    """Return the differences of words: two shapes that broadcast → uint64 of the common shape."""
    with np.errstate(invalid="ignore"):
        difference = decode(fmt, a, subnormals=subnormals) - decode(fmt, b, subnormals=subnormals)
    return encode(fmt, difference, subnormals=subnormals, saturate=saturate)


def float_fma(fmt: FloatFormat, a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike, *, subnormals: bool = False,
              saturate: bool = False) -> Words:
    """Return a · b + c of words, rounded once: three shapes that broadcast → uint64 of the common shape."""
    x, y, z = (decode(fmt, words, subnormals=subnormals) for words in (a, b, c))
    with np.errstate(invalid="ignore"):
        product = x * y                                             # exact: 50 bits, no smaller than 2^−300
        total = np.asarray(product + z)
        # What the sum left out (Knuth's two-sum), and where it left out something, the odd one of its two neighbours.
        part = total - product
        rest = (product - (total - part)) + (z - part)
    bits = total.view(np.int64)
    inexact = (rest != 0) & np.isfinite(total) & (bits & 1 == 0)
    odd = bits + np.where((rest > 0) == (total > 0), 1, -1)
    return encode(fmt, np.where(inexact, odd, bits).view(np.float64), subnormals=subnormals, saturate=saturate)


def float_scale(fmt: FloatFormat, words: npt.ArrayLike, exponents: npt.ArrayLike, *, subnormals: bool = False,
                saturate: bool = False) -> Words:
    """Return words · 2^exponents: words and integers (magnitudes below 512) of shapes that broadcast → uint64."""
    values = np.ldexp(decode(fmt, words, subnormals=subnormals), np.asarray(exponents, dtype=np.int64).astype(np.int32))
    return encode(fmt, values, subnormals=subnormals, saturate=saturate)
