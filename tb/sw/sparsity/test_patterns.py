"""Declared patterns: density, pruning without rounding, and tensors that break a pattern."""

import numpy as np
import pytest

from hw.families import SparseFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError, dequantize, quantize
from sw.sparsity.patterns import PatternError, check_pattern, density, pruned
from tb.formats.structure import groups_of, largest, wide

SPARSE = [fmt for fmt in FORMATS.values() if isinstance(fmt, SparseFormat)]
by_name = pytest.mark.parametrize("fmt", SPARSE, ids=lambda fmt: fmt.name)
THINNED = ["2:4", "1:4", "4:8", "hss-4:5-2:3", "hss-4:8-2:4", "tasd-2:8+1:8", "tasd-2:4+2:8", "tasd-1:8",
           "sdq-7:8-1:8int8-6:8fp4-g64", "sdq-3:4-1:4int8-2:4fp4-g64"]


@pytest.mark.parametrize(("name", "share"), [
    ("2:4", 0.5), ("1:4", 0.25), ("hss-4:4-2:2", 1.0), ("hss-4:6-2:4", 1 / 3), ("hss-4:8-2:4", 0.25), ("tasd-2:8+1:8", 0.375),
    ("tasd-2:4+2:8", 0.75), ("tasd-4:4+2:4", 1.0), ("sdq-7:8-1:8int8-6:8fp4-g64", 0.875), ("int8", 1.0), ("nvfp4", 1.0),
])
def test_density(name, share):
    assert density(format_named(name)) == pytest.approx(share)


@pytest.mark.parametrize("name", THINNED)
def test_density_is_what_quantized_values_have_at_most(name):
    fmt = format_named(name)
    values = dequantize(quantize(wide(8, 480), fmt))
    assert np.count_nonzero(values) / values.size <= density(fmt)
    assert np.count_nonzero(dequantize(quantize(np.full((2, 480), 3, np.float32), fmt))) == round(density(fmt) * 960)


@by_name
def test_pruning_keeps_values_as_they_are(fmt):
    matrix = wide(5, 3 * fmt.block, seed=1)
    thin = pruned(fmt, matrix)
    assert thin.dtype == np.float32
    assert ((thin == matrix) | (thin == 0)).all()
    assert np.count_nonzero(thin) == round(density(fmt) * matrix.size)
    check_pattern(fmt, thin)
    assert (np.sign(thin) * np.sign(dequantize(quantize(matrix, fmt))) >= 0).all()
    assert not dequantize(quantize(matrix, fmt))[thin == 0].any()


def test_pruning_by_the_definition_with_another_significance():
    """A row of 2:4 in plain Python, ranked by what is said to matter instead of by magnitude."""
    rng = np.random.default_rng(2)
    matrix, matters = wide(4, 32, seed=3), rng.random((4, 32)).astype(np.float32)
    thin = pruned(format_named("2:4"), matrix, matters)
    for row, ranked, got in zip(matrix.tolist(), matters.tolist(), thin.tolist(), strict=True):
        want = []
        for group, key in zip(groups_of(row, 4), groups_of(ranked, 4), strict=True):
            kept = largest(key, 2)
            want += [value if place in kept else 0 for place, value in enumerate(group)]
        assert got == want


def test_a_last_block_is_padded():
    fmt = format_named("hss-4:6-2:4")                       # blocks of 24
    matrix = wide(3, 24 + 10, seed=4)
    thin = pruned(fmt, matrix)
    assert thin.shape == matrix.shape
    assert (thin == pruned(fmt, np.pad(matrix, ((0, 0), (0, 14))))[:, :34]).all()
    # Ten values are three groups of four, the last with two of padding: four groups may stay, two values in each.
    assert np.count_nonzero(thin[:, 24:]) == 3 * 6
    check_pattern(fmt, thin)


@pytest.mark.parametrize("name", THINNED)
def test_what_a_format_makes_obeys_it(name):
    fmt = format_named(name)
    made = dequantize(quantize(wide(6, 5 * 64 - 7, seed=5), fmt))
    check_pattern(fmt, made)
    check_pattern(fmt, made.astype(np.float64))
    check_pattern(fmt, np.zeros((3, 5), np.int8))


@pytest.mark.parametrize("name", ["int8", "nvfp4", "float32"])
def test_dense_formats_take_everything(name):
    check_pattern(format_named(name), np.ones((2, 7)))


@pytest.mark.parametrize(("name", "places", "text"), [
    ("2:4", [40, 41, 43], r"at most 2 of 4 values must be other than zero for 2:4, not 3 \(row 12, block 2, group 2\)"),
    ("2:4", [44, 45, 46, 47], r"at most 2 of 4 values must be other than zero for 2:4, not 4 \(row 12, block 2, group 3\)"),
    ("hss-4:6-2:4", [25, 26, 27], r"at most 2 of 4 values must .* for hss-4:6-2:4, not 3 \(row 12, block 1, group 0\)"),
    ("hss-4:6-2:4", [24, 28, 32, 36, 47],
     r"at most 4 of 6 groups of 4 must be other than zero for hss-4:6-2:4, not 5 \(row 12, block 1\)"),
    ("tasd-2:8+1:8", [16, 17, 20, 23],
     r"the terms of tasd-2:8\+1:8 must take every value other than zero, not 3 of 4 \(row 12, block 1\)"),
    ("sdq-7:8-1:8int8-6:8fp4-g64", range(8, 16),
     r"at most 7 of 8 values must be other than zero for sdq-7:8-1:8int8-6:8fp4-g64, not 8 \(row 12, block 0, group 1\)"),
])
def test_tensors_that_break_their_pattern(name, places, text):
    matrix = np.zeros((4, 50), np.int8)
    matrix[2, list(places)] = range(1, len(places) + 1)
    matrix[3] = 1
    with pytest.raises(PatternError, match=f"^{text}$"):
        check_pattern(format_named(name), matrix, first_row=10)
    matrix[2, places[0]] = matrix[2, places[-1]] = 0
    check_pattern(format_named(name), matrix[:3])
    assert issubclass(PatternError, FormatError)


def test_padding_is_no_value():
    matrix = np.ones((1, 6), np.float32)
    matrix[0, 2:4] = 0
    check_pattern(format_named("2:4"), matrix)


def test_terms_of_other_sizes_leave_what_greed_leaves():
    """2:8 takes the two largest, of the first half, and 1:4 one of each half: three of the second half are one too many."""
    fmt = format_named("tasd-2:8+1:4")
    row = np.array([[9, 8, 1, 0, 2, 0, 0, 0]])
    check_pattern(fmt, row)
    row[0, 5] = 3
    with pytest.raises(PatternError, match=r"not 4 of 5 \(row 0, block 0\)$"):
        check_pattern(fmt, row)
    check_pattern(fmt, np.array([[1, 0, 0, 0, 9, 9, 3, 0]]))
