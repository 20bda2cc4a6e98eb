"""Floating-point minimum and maximum in Verilator: every pair of bytes, half a million and corners of wider formats."""

import pytest

from hw.arith.float_min_max import FloatMinMax
from sw.golden.arith.comparison import float_max, float_min
from tb.arith.blocks import check_all, mode_name
from tb.arith.words import ARITHMETIC, operands


@pytest.mark.parametrize("number", [False, True])
@pytest.mark.parametrize(("output", "golden"), [("low", float_min), ("high", float_max)])
def test_choice(output, golden, number):
    cases = {}
    for seed, fmt in enumerate(ARITHMETIC):
        for subnormals in (True, False):
            a, b = operands(fmt, 2, 500_000, seed)
            options = {"subnormals": subnormals, "number": number}
            cases[mode_name(fmt, subnormals)] = FloatMinMax(fmt=fmt, **options), {"a": a, "b": b}, golden(fmt, a, b, **options)
    check_all(f"float_min_max_{number:d}", cases, output=output)


def test_latency():
    assert FloatMinMax.latency == 1
