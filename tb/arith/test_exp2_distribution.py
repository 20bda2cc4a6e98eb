# amaranth: UnusedElaboratable=no
"""Three functions of one evaluator in Verilator: every word of up to 16 bits, a million of float32, as of blocks of their own."""

import numpy as np
import pytest

from hw.arith.exp2_distribution import Exp2Distribution
from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith.functions import exp2, normal, sigmoid
from tb.arith.blocks import check_all
from tb.arith.functions import arguments
from tb.arith.words import ARITHMETIC, TINY_FORMATS


def test_words():
    cases = {}
    for seed, fmt in enumerate(ARITHMETIC):
        words, rng = arguments(fmt, seed), np.random.default_rng(seed)
        words = np.concatenate([words, words, words]) if fmt is not FP32 else words
        which = np.arange(words.size) * 3 // words.size if fmt is not FP32 else rng.integers(0, 3, words.size)
        either = rng.integers(0, 2, words.size)                 # `normal` of a power of two counts for nothing
        expected = np.choose(which, [exp2(fmt, words, subnormals=True), sigmoid(fmt, words), normal(fmt, words)])
        order = rng.permutation(words.size)
        ports = {"i": words, "distribution": (which > 0).astype(np.uint8), "normal": np.where(which, which == 2, either)}
        cases[fmt.name] = (Exp2Distribution(fmt=fmt), {name: column[order] for name, column in ports.items()}, expected[order])
    check_all("exp2_distribution", cases)


def test_latency():
    assert [Exp2Distribution(fmt=fmt).latency for fmt in (FP32, FP16, BF16)] == [11, 7, 7]


@pytest.mark.parametrize("fmt", [*TINY_FORMATS[:2], FloatFormat(name="e3m12", exponent_bits=3, mantissa_bits=12)],
                         ids=lambda fmt: fmt.name)
def test_formats_without_a_tail(fmt):
    with pytest.raises(ConfigError, match=rf"^Exp2Distribution\.fmt must have values of 32 and more, not '{fmt.name}'$"):
        Exp2Distribution(fmt=fmt)
