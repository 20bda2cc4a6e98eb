"""Floating-point words worth trying: corners of a format, and random words of which enough are ordinary numbers."""

import random

from hw.elements import BF16, FP16, FP32, FloatFormat

__all__ = ["FORMATS", "TINY_FORMATS", "corners", "random_words"]

FORMATS = (FP32, FP16, BF16)
TINY_FORMATS = tuple(FloatFormat(name=f"e{e}m{m}", exponent_bits=e, mantissa_bits=m) for e, m in ((2, 2), (3, 3), (4, 2)))


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
