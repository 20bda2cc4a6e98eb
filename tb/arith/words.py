"""Floating-point words worth trying: corners of a format, and random words of which enough are ordinary numbers."""

import itertools
import random

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.elements import BF16, ELEMENTS, FP16, FP32, FloatFormat, Specials

__all__ = ["ARITHMETIC", "BYTES", "FORMATS", "TINY_FORMATS", "corners", "nearest_word", "numpy_type", "operands",
           "random_words", "same_words"]

Words = npt.NDArray[np.uint64]

FORMATS = (FP32, FP16, BF16)
TINY_FORMATS = tuple(FloatFormat(name=f"e{e}m{m}", exponent_bits=e, mantissa_bits=m) for e, m in ((2, 2), (3, 3), (4, 2)))
BYTES = tuple(fmt for name in ("float8_e4m3fn", "float8_e5m2") if isinstance(fmt := ELEMENTS[name], FloatFormat))
ARITHMETIC = (*FORMATS, *BYTES)


def corners(fmt: FloatFormat) -> list[int]:
    """Return words at the edges of everything: zeros, subnormal, ones, halves, limits, infinities, NaNs; both signs."""
    one, top = 1 << fmt.mantissa_bits, (1 << fmt.mantissa_bits) - 1
    mantissas = (0, 1, 2, one >> 1, (one >> 1) + 1, top - 1, top)
    exponents = (0, 1, 2, fmt.bias // 2, fmt.bias - 1, fmt.bias, fmt.bias + 1, fmt.exponent_max - 1, fmt.exponent_max)
    words = {exponent * one + mantissa for exponent in exponents for mantissa in mantissas}
    return sorted(words | {word | 1 << (fmt.bits - 1) for word in words})


def random_words(fmt: FloatFormat, count: int, rng: random.Random, *, spread: int | None = None) -> list[int]:
    """Return `count` random words; with `spread`, their exponents lie at most that far from that of one."""
    words = []
    for _ in range(count):
        word = rng.getrandbits(fmt.bits)
        if spread is not None:
            exponent = min(max(fmt.bias + rng.randint(-spread, spread), 0), fmt.exponent_max)
            word = word & ~(fmt.exponent_max << fmt.mantissa_bits) | exponent << fmt.mantissa_bits
        words.append(word)
    return words


def operands(fmt: FloatFormat, ways: int, count: int, seed: int) -> list[Words]:
    """Return operands of `ways` ports: every pair of two bytes; else corners with corners, and `count` random ones.

    Of those, one third is random in all bits, one has exponents within a few of each other, and in one the second operand is as
    near to the first as a few units in the last place, of any sign, so that terms cancel and products of reciprocals round.
    """
    rng = np.random.default_rng(seed)
    if fmt.bits == 8 and ways == 2:
        return [axis.ravel().astype(np.uint64) for axis in np.meshgrid(np.arange(256), np.arange(256))]
    some = np.array(corners(fmt), np.uint64)
    if ways == 3:
        some = rng.permutation(some)[:48]
    mixed = np.array(list(itertools.product(some, repeat=ways)), np.uint64).T
    loose = rng.integers(0, 1 << fmt.bits, (ways, count), dtype=np.uint64)
    exponents = np.uint64(fmt.exponent_max << fmt.mantissa_bits)
    step = np.uint64(1 << fmt.mantissa_bits)
    near = slice(count // 3, 2 * count // 3)
    base = loose[0, near] & exponents
    reach = min(fmt.mantissa_bits + 4, fmt.exponent_max // 2)
    for way in range(1, ways):
        shifted = base + rng.integers(0, reach, base.size, np.uint64) * step & exponents
        loose[way, near] = loose[way, near] & ~exponents | shifted
    if ways == 1:
        return [np.concatenate([mixed[0], loose[0]])]
    close = slice(2 * count // 3, count)
    sign = np.uint64(1 << (fmt.bits - 1))
    beside = loose[0, close] + rng.integers(0, 5, loose[0, close].size, np.uint64) - np.uint64(2)
    loose[1, close] = beside & (sign - np.uint64(1)) | loose[1, close] & sign
    return [np.concatenate([mixed[way], loose[way]]) for way in range(ways)]


def numpy_type(fmt: FloatFormat) -> np.dtype:
    """Return the numpy type of a format that numpy or `ml_dtypes` knows."""
    return np.dtype(getattr(ml_dtypes, fmt.name, fmt.name))


def same_words(fmt: FloatFormat, values: npt.NDArray) -> Words:
    """Return the words of an array of `numpy_type(fmt)`, every NaN the one quiet NaN."""
    words = values.view(f"u{values.dtype.itemsize}").astype(np.uint64)
    if fmt.specials is Specials.NONE:
        return words
    quiet = int(np.array(np.nan).astype(values.dtype).view(f"u{values.dtype.itemsize}"))
    return np.where(np.isnan(values), np.uint64(quiet), words)


def nearest_word(fmt: FloatFormat, units: int, lsb: int, *, negative_zero: bool = False) -> int:
    """Return the word nearest to units · 2^lsb, ties to even, subnormal ones included: integers only, an oracle of its own."""
    sign = (units < 0 or (units == 0 and negative_zero)) << (fmt.bits - 1)
    size = abs(units)
    least = 1 - fmt.bias - fmt.mantissa_bits
    drop = max(size.bit_length() - 1 - fmt.mantissa_bits, least - lsb)      # places that go, or come
    if drop > 0:
        rest = size & (1 << drop) - 1
        size >>= drop
        size += 2 * rest > 1 << drop or (2 * rest == 1 << drop and size & 1)
    else:
        size <<= -drop
    if size >> (fmt.mantissa_bits + 1):
        size, drop = size >> 1, drop + 1
    if not size >> fmt.mantissa_bits:
        return sign | size
    exponent = drop + lsb - least + 1
    word = exponent << fmt.mantissa_bits | size & (1 << fmt.mantissa_bits) - 1
    infinite = fmt.exponent_max << fmt.mantissa_bits
    if fmt.specials is Specials.IEEE:
        return sign | min(word, infinite)
    full = (1 << (fmt.bits - 1)) - 1
    if fmt.specials is Specials.NONE:
        return sign | min(word, full)
    return full if word >= full else sign | word
