# amaranth: UnusedElaboratable=no
"""Products of 16-bit floats: random words, every pair of corners, and numpy's float64 as reference."""

import itertools

import numpy as np
import pytest

from hw.arith.float_product import FloatProduct
from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.array.floating import word_products
from tb.arith.pipeline import run_pipeline
from tb.arith.words import corners, numpy_type

FORMATS = (FP16, BF16)


def expected(fmt: FloatFormat, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the words by float64, in which products are exact, and the rules on zero, subnormal numbers and NaN."""
    x, y = (words.astype(np.uint16).view(numpy_type(fmt)).astype(np.float64) for words in (a, b))
    if fmt is BF16:
        x, y = (np.where(np.abs(value) < 2.0**-126, 0, value) for value in (x, y))
    zero = (x == 0) | (y == 0)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = np.where(zero, 0.0, x * y)
        word = np.where(np.abs(exact) < 2.0**-126, np.copysign(0.0, exact), exact).astype(np.float32).view(np.uint32)
    return np.where(np.isnan(exact), 0x7FC0_0000, word)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_products(fmt: FloatFormat, stall: float) -> None:
    pairs = list(itertools.product(corners(fmt)[::3] if stall else corners(fmt)[::2], repeat=2))
    rng = np.random.default_rng(5)
    a, b = np.array([*pairs, *zip(*rng.integers(0, 1 << 16, (2, 500)), strict=True)]).T
    with np.errstate(invalid="ignore"):
        words = expected(fmt, a, b)
    found = run_pipeline(FloatProduct(fmt=fmt), {"a": a.tolist(), "b": b.tolist()}, stall=stall)
    assert found == words.tolist()
    with np.errstate(invalid="ignore"):
        golden = word_products(fmt, a.astype(np.uint16), b.astype(np.uint16))
    nan = np.isnan(golden)
    assert (golden.view(np.uint32)[~nan] == words[~nan]).all()
    assert (words[nan] == 0x7FC0_0000).all()
    assert nan.any()


def test_zero_masks_everything() -> None:
    """What is masked to zero adds +0, whatever lies on the other side."""
    others = corners(FP16)
    zeros = [0, 1 << 15]
    pairs = [*itertools.product(zeros, others), *itertools.product(others, zeros)]
    found = run_pipeline(FloatProduct(fmt=FP16), {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]})
    assert set(found) == {0}


def test_only_16_bits() -> None:
    with pytest.raises(ConfigError, match=r"^FloatProduct\.fmt must be float16 or bfloat16, not 'float32'$"):
        FloatProduct(fmt=FP32)
