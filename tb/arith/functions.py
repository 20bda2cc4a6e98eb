"""What the tests of 2^x, 1/x and 1/√x have in common: every word of up to 16 bits, a million of float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import FP32, FloatFormat
from sw.golden.arith.floating import decode
from tb.arith.blocks import Case, check_all, mode_name
from tb.arith.words import ARITHMETIC, operands

__all__ = ["arguments", "check_function", "ulps"]


def arguments(fmt: FloatFormat, seed: int) -> npt.NDArray[np.uint64]:
    """Return every word, or of float32 a million: any, from 2^−12 to 2^8, and small integers and what is next to them."""
    if fmt.bits <= 16:
        return np.arange(1 << fmt.bits, dtype=np.uint64)
    rng = np.random.default_rng(seed)
    middle = rng.integers(115 << 23, 135 << 23, 400_000, np.uint64) | rng.integers(0, 2, 400_000, np.uint64) << np.uint64(31)
    integers = rng.integers(-160, 160, 100_000).astype(np.float32).view(np.uint32).astype(np.uint64)
    integers += rng.integers(0, 3, integers.size, np.uint64)
    return np.concatenate([operands(FP32, 1, 500_000, seed)[0], middle, integers])


def check_function(name: str, block: Callable[..., Any], golden: Callable[..., npt.NDArray[np.uint64]]) -> None:
    """Compare a block with its golden model in every format and mode."""
    cases: dict[str, Case] = {}
    for seed, fmt in enumerate(ARITHMETIC):
        words = arguments(fmt, seed)
        for options in ({"subnormals": True}, {"subnormals": False}, {"subnormals": True, "saturate": True}):
            key = mode_name(fmt, options["subnormals"]) + " saturated" * ("saturate" in options)
            cases[key] = block(fmt=fmt, **options), {"i": words}, golden(fmt, words, **options)
    words = arguments(FP32, 99)
    shape = {"degree": 1, "segments_log2": 6}
    cases["coarse"] = block(fmt=FP32, **shape), {"i": words}, golden(FP32, words, **shape)
    check_all(name, cases)


def ulps(fmt: FloatFormat, words: npt.NDArray[np.uint64], exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the errors of words in units of the last place of the exact values, where both are finite and not 0."""
    values = decode(fmt, words, subnormals=True)
    ordinary = np.isfinite(values) & np.isfinite(exact) & (exact != 0)
    values, exact = values[ordinary], exact[ordinary]
    place = np.maximum(np.frexp(exact)[1] - 1, 1 - fmt.bias) - fmt.mantissa_bits
    return np.abs(values - exact) * np.ldexp(1.0, -place)
