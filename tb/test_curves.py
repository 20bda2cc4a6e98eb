"""Curves: errors over every argument against float64, order, exact ends, widths, and what is refused."""

import math

import numpy as np
import pytest

from hw.curves import CURVES, Curve, curve
from hw.errors import ConfigError
from sw.golden.arith.functions import curve_values

# Name, mantissa bits, and the largest error in units in the last place that a rounded value of the curve by default has: measured
# over every argument, rounded up.
DEFAULTS = [("exp2", 23, 0.62), ("exp2", 10, 0.56), ("exp2", 7, 0.57), ("exp2", 3, 0.5), ("exp2", 2, 0.5),
            ("reciprocal", 23, 0.82), ("reciprocal", 10, 0.56), ("reciprocal", 7, 0.6), ("reciprocal", 3, 0.5),
            ("reciprocal", 2, 0.61),
            ("rsqrt", 23, 0.66), ("rsqrt", 10, 0.56), ("rsqrt", 7, 0.56), ("rsqrt", 3, 0.5), ("rsqrt", 2, 0.54)]
CHUNK = 1 << 17


def exact(table: Curve, arguments: np.ndarray) -> np.ndarray:
    """Return the function itself in float64."""
    if table.name == "exp2":
        return np.exp2(arguments * 2.0**-(table.index_bits + table.offset_bits))
    if table.name == "reciprocal":
        return 1 / (1 + arguments * 2.0**-(table.index_bits + table.offset_bits))
    half = 1 << (table.index_bits + table.offset_bits - 1)
    return 1 / np.sqrt(np.where(arguments < half, 1 + arguments / half, 2 * (arguments / half)))


def chunks(table: Curve):
    """Yield arguments, all of them, in pieces that stay in the cache; none is of both branches of rsqrt."""
    total = 1 << (table.index_bits + table.offset_bits)
    step = min(CHUNK, total // 2)
    for start in range(0, total, step):
        yield np.arange(start, start + step)


@pytest.mark.parametrize(("name", "mantissa_bits", "bound"), DEFAULTS)
def test_every_value_rounds_to_within_an_ulp_and_in_order(name, mantissa_bits, bound):
    table = curve(name, mantissa_bits)
    worst, rising = 0.0, 1 if name == "exp2" else -1
    last = -math.inf
    for arguments in chunks(table):
        value, target = curve_values(table, arguments) * 2.0**-table.fraction_bits, exact(table, arguments)
        places = 2.0**(mantissa_bits + (name != "exp2"))                # one unit in the last place of [1, 2), or [1/2, 1)
        above = 2.0**mantissa_bits
        rounded = np.where(value >= 1, np.rint(value * above) / above, np.rint(value * places) / places)
        worst = max(worst, np.abs(rounded - target).max() * places)
        if name == "rsqrt" and int(arguments[0]) << 1 == 1 << (table.index_bits + table.offset_bits):
            last = -math.inf                                            # the other branch
        assert np.all(np.diff(np.concatenate([[last], rising * rounded])) >= 0)
        last = rising * rounded[-1]
    assert bound - 0.13 < worst <= bound


# Degree, segments, and the largest errors of the logistic and the normal tail, as powers of two.
TAILS = [(None, None, -22.4, -24.3), (3, 5, -18.5, -20.4), (3, 7, -25.8, -26.5), (2, 7, -18.5, -19.9), (2, 8, -21.5, -22.8)]


@pytest.mark.parametrize(("degree", "segments_log2", "logistic", "normal"), TAILS)
def test_tails_of_distributions(degree, segments_log2, logistic, normal):
    table = curve("distribution", 23, degree=degree, segments_log2=segments_log2)
    bits = table.index_bits - 1 + table.offset_bits
    step = 16
    for branch, bound in enumerate((logistic, normal)):
        x = np.arange(0, 1 << bits, step)
        value = curve_values(table, branch << bits | x)
        if branch:
            exact = np.array([math.erfc(z) for z in (x * (8 / math.sqrt(2) / (1 << bits))).tolist()]) / 2
        else:
            exact = 1 / (1 + np.exp(x * (16 / (1 << bits))))
        assert bound - 0.2 < math.log2(np.abs(value * 2.0**-table.fraction_bits - exact).max()) <= bound
        assert value[0] == 1 << table.fraction_bits - 1
        if degree is None:
            assert value.min() >= 0
            assert value[-1] < value[0] >> 20
            assert np.diff(value).max() <= 1                            # falls, but for the last bit


@pytest.mark.parametrize(("name", "mantissa_bits"), [(name, m) for name, m, _ in DEFAULTS])
def test_one_is_one(name, mantissa_bits):
    table = curve(name, mantissa_bits)
    value = table.value(0, 0) * 2.0**-table.fraction_bits
    assert abs(value - 1) < 2.0**-(mantissa_bits + 2)                   # rounds to 1


@pytest.mark.parametrize(("name", "mantissa_bits", "degree", "segments_log2", "bound"), [
    ("exp2", 23, 1, 2, 2.0e-3), ("exp2", 23, 1, 3, 4.8e-4), ("exp2", 23, 1, 4, 1.2e-4), ("exp2", 23, 1, 6, 7.4e-6),
    ("exp2", 23, 2, 4, 4.4e-7), ("exp2", 23, 3, 4, 1.5e-8), ("reciprocal", 23, 1, 4, 4.7e-4), ("reciprocal", 23, 1, 6, 3.1e-5),
    ("reciprocal", 23, 2, 5, 9.2e-7), ("reciprocal", 23, 3, 5, 1.5e-8), ("rsqrt", 23, 1, 5, 5.0e-5), ("rsqrt", 23, 2, 5, 3.0e-7)])
def test_menu_of_errors(name, mantissa_bits, degree, segments_log2, bound):
    table = curve(name, mantissa_bits, degree=degree, segments_log2=segments_log2)
    step = 1 if name != "exp2" else 4
    worst = max(np.abs(curve_values(table, some) * 2.0**-table.fraction_bits / exact(table, some) - 1).max()
                for some in (arguments[::step] for arguments in chunks(table)))
    assert bound / 1.25 < worst <= bound


@pytest.mark.parametrize("name", CURVES)
def test_the_golden_model_evaluates_as_the_table_says(name):
    for degree in (1, 2, 3):
        table = curve(name, 7, degree=degree, segments_log2=3)
        arguments = np.arange(1 << (table.index_bits + table.offset_bits))
        expected = [table.value(int(x) >> table.offset_bits, int(x) & (1 << table.offset_bits) - 1) for x in arguments]
        np.testing.assert_array_equal(curve_values(table, arguments), expected)
        assert min(expected) > 0 or name == "distribution"
        assert max(expected).bit_length() <= table.value_bits


@pytest.mark.parametrize("name", CURVES)
def test_widths_hold_every_number(name):
    table = curve(name, 10, degree=3, segments_log2=2)
    assert table.degree == 3
    assert table.table_bits == len(table.coefficients) * sum(table.coefficient_bits(order) for order in range(4))
    for order in range(4):
        column = [segment[order] for segment in table.coefficients]
        limit = 1 << (table.coefficient_bits(order) - 1)
        assert -limit <= min(column)
        assert max(column) < limit
        assert min(column) < -limit // 2 or max(column) >= limit // 2
    sums: list[list[int]] = [[] for _ in range(4)]
    for segment in table.coefficients:
        for offset in range(1 << table.offset_bits):
            value = 0
            for order in reversed(range(4)):
                value = (value * offset >> table.offset_bits) + segment[order]
                sums[order].append(value)
    for order, found in enumerate(sums):
        limit = 1 << (table.sum_bits(order) - 1)
        assert -limit <= min(found)
        assert max(found) < limit


@pytest.mark.parametrize(("arguments", "text"), [
    (("sine", 23), r"^a curve must be one of exp2, reciprocal, rsqrt, distribution, not 'sine'$"),
    (("exp2", 1), r"^mantissa_bits of a curve must be between 2 and 24, not 1$"),
    (("exp2", 25), r"^mantissa_bits of a curve must be between 2 and 24, not 25$"),
])
def test_what_is_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        curve(*arguments)


@pytest.mark.parametrize(("option", "value", "text"), [
    ("degree", 4, r"^degree of a curve must be between 1 and 3, not 4$"),
    ("segments_log2", 11, r"^segments_log2 of a curve must be between 1 and 10, not 11$"),
    ("segments_log2", 0, r"^segments_log2 of a curve must be between 1 and 10, not 0$")])
def test_bad_shapes(option, value, text):
    with pytest.raises(ConfigError, match=text):
        curve("reciprocal", 23, **{option: value})
