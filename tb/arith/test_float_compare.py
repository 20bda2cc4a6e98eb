"""Floating-point comparison in Verilator: every pair of bytes, a million pairs and the corners of wider formats, both modes."""

import numpy as np
import pytest

from hw.arith.float_compare import FloatCompare
from sw.golden.arith.comparison import float_compare
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, operands

OUTPUTS = ("less", "equal", "greater", "unordered")


@pytest.fixture(scope="module")
def pairs():
    return {(fmt, subnormals): operands(fmt, 2, 1_000_000, seed)
            for seed, (fmt, subnormals) in enumerate((fmt, subnormals) for fmt in ARITHMETIC for subnormals in (True, False))}


@pytest.mark.parametrize("output", OUTPUTS)
def test_relations(pairs, output):
    cases = {}
    for (fmt, subnormals), (a, b) in pairs.items():
        expected = float_compare(fmt, a, b, subnormals=subnormals)[OUTPUTS.index(output)].astype(np.uint64)
        assert 0 < expected.sum() < expected.size
        cases[mode_name(fmt, subnormals)] = FloatCompare(fmt=fmt, subnormals=subnormals), {"a": a, "b": b}, expected
    check_all("float_compare", cases, output=output)


def test_exactly_one_relation_holds():
    for fmt in ARITHMETIC:
        a, b = operands(fmt, 2, 1000, 1)
        assert np.all(sum(flags.astype(int) for flags in float_compare(fmt, a, b, subnormals=True)) == 1)


def test_latency():
    assert FloatCompare.latency == 1
