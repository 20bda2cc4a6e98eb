"""TASD series: terms against plain Python, every choice of a single term, and the published quality of approximation."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.families import SeriesFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError
from sw.formats.rows import quantize_rows
from sw.formats.series import SeriesCodec, decompose, term_lanes
from tb.formats.structure import best, formats_of, groups_of, int8_row, largest, samples, wide

SERIES = formats_of(SeriesFormat, "tasd-3:5", "tasd-1:2+1:3+2:5", "tasd-4:4", "tasd-9:40+1:2")
codec = SeriesCodec()
each_series = pytest.mark.parametrize("fmt", SERIES, ids=lambda fmt: fmt.name)

# Share of the values not zero that is lost, and relative error, for each density of Gaussian data and each series.
QUALITY = {
    ".05": {"2:4": (.003, .048), "2:8": (.016, .114), "4:8": (0, .007), "2:8+1:8": (.001, .032), "4:8+1:8": (0, 0),
            "4:8+2:8": (0, 0)},
    ".10": {"2:4": (.009, .082), "2:8": (.055, .203), "4:8": (0, .016), "2:8+1:8": (.007, .068), "4:8+1:8": (0, 0),
            "4:8+2:8": (0, 0)},
    ".20": {"2:4": (.038, .160), "2:8": (.170, .342), "4:8": (.007, .067), "2:8+1:8": (.044, .167), "4:8+1:8": (.001, .019),
            "4:8+2:8": (0, .003)},
    ".30": {"2:4": (.077, .216), "2:8": (.298, .435), "4:8": (.030, .127), "2:8+1:8": (.112, .253), "4:8+1:8": (.006, .054),
            "4:8+2:8": (.001, .018)},
    ".50": {"2:4": (.187, .301), "2:8": (.509, .534), "4:8": (.135, .234), "2:8+1:8": (.295, .370), "4:8+1:8": (.045, .128),
            "4:8+2:8": (.010, .057)},
    "1.0": {"2:4": (.500, .364), "2:8": (.750, .578), "4:8": (.500, .321), "2:8+1:8": (.625, .438), "4:8+1:8": (.375, .222),
            "4:8+2:8": (.250, .138)},
}


def integers(columns: int, *, seed: int) -> np.ndarray:
    """Return rows of int8: all values, few values (ties), sparse ones, both ends, zeros."""
    rng = np.random.default_rng(seed)
    every = rng.integers(-128, 128, (8, columns))
    rows = [*every, *rng.integers(-2, 3, (4, columns)), *np.where(rng.random((8, columns)) < 0.2, every, 0),
            np.full(columns, -128), np.full(columns, 127), np.where(np.arange(columns) % 2, 127, -128), np.zeros(columns)]
    return np.array(rows, np.int8)


@each_series
def test_terms_by_the_definition(fmt):
    array = integers(2 * fmt.block, seed=1)
    terms, residual = decompose(array, fmt.terms)
    for row, index in zip(array.tolist(), range(len(array)), strict=True):
        left = list(row)
        for (keep, of), term in zip(fmt.terms, terms, strict=True):
            want = [0] * len(left)
            for low, group in enumerate(groups_of(left, of)):
                for place in largest(group, keep):
                    want[low * of + place] = group[place]
            left = [value - taken for value, taken in zip(left, want, strict=True)]
            assert term[index].tolist() == want
        assert residual[index].tolist() == left


@each_series
def test_terms_and_residual_are_the_array(fmt):
    array = integers(4 * fmt.block, seed=2).reshape(2, 3, -1, 4 * fmt.block)
    before = array.copy()
    terms, residual = decompose(array, fmt.terms)
    assert (array == before).all()
    assert all(part.dtype == np.int8 and part.shape == array.shape for part in (*terms, residual))
    assert (sum(part.astype(int) for part in (*terms, residual)) == array).all()
    assert (sum(part != 0 for part in (*terms, residual)) <= 1).all()           # no value lies in two
    for (keep, of), term in zip(fmt.terms, terms, strict=True):
        assert (np.count_nonzero(term.reshape(-1, of), axis=1) <= keep).all()


@pytest.mark.parametrize("fmt", [fmt for fmt in SERIES if len(fmt.terms) == 1], ids=lambda fmt: fmt.name)
def test_no_single_term_keeps_more(fmt):
    (keep, of), = fmt.terms
    array = integers(fmt.block, seed=3)
    (term,), _ = decompose(array, fmt.terms)
    for group, got in zip(array.reshape(-1, of).tolist(), term.reshape(-1, of).astype(int), strict=True):
        assert (got**2).sum() == best(group, keep)


@pytest.mark.parametrize("fmt", [fmt for fmt in SERIES if len({of for _, of in fmt.terms}) == 1], ids=lambda fmt: fmt.name)
def test_nothing_is_lost_where_terms_have_room(fmt):
    rng = np.random.default_rng(4)
    of, room = fmt.terms[0][1], sum(keep for keep, _ in fmt.terms)
    array = np.zeros((50, of), np.int8)
    for group in array:
        group[rng.choice(of, room, replace=False)] = rng.choice([-128, -3, 3, 127], room)
    _, residual = decompose(array, fmt.terms)
    assert not residual.any()
    if room < of:
        array[:, :] = 5
        _, residual = decompose(array, fmt.terms)
        assert np.count_nonzero(residual) == 50 * (of - room)


@each_series
def test_records_are_the_terms(fmt):
    matrix = samples(3 * fmt.block, seed=5)
    encoded = codec.quantize(fmt, matrix)
    assert {name: (array.shape, array.dtype) for name, array in encoded.fields.items()} == {
        field.name: ((9, 3, field.count), np.uint8) for field in fmt.word.fields}
    assert set(encoded.side) == set(fmt.side)
    q, scale = (np.array(part) for part in zip(*(int8_row(row) for row in matrix), strict=True))
    assert (encoded.side["row_scale"] == scale).all()
    terms, _ = decompose(q.astype(np.int8), fmt.terms)
    assert (term_lanes(fmt, encoded) == terms).all()
    total = sum(term.astype(np.int64) for term in terms)
    assert (codec.dequantize(fmt, encoded) == total.astype(np.float32) * scale[:, None]).all()
    for index, (keep, of) in enumerate(fmt.terms):
        places = encoded.fields[f"inner{index}"].reshape(-1, keep)
        assert (np.diff(places.astype(int), axis=1) > 0).all()
        assert places.max() < of


@pytest.mark.parametrize("density", QUALITY)
def test_published_quality(density):
    q, _ = quantize_rows(wide(256, 1024, density=float(density), seed=6))
    for name, (lost, error) in QUALITY[density].items():
        fmt = format_named(f"tasd-{name}")
        _, residual = decompose(q, fmt.terms)
        assert np.count_nonzero(residual) / np.count_nonzero(q) == pytest.approx(lost, abs=0.01), name
        relative = np.linalg.norm(residual.astype(float)) / np.linalg.norm(q.astype(float))
        assert relative == pytest.approx(error, abs=0.01), name


@pytest.mark.parametrize(("name", "bits"), [("tasd-2:4", 5.0), ("tasd-1:8", 11 / 8), ("tasd-4:8", 5.5), ("tasd-4:8+1:8", 55 / 8),
                                            ("tasd-2:4+2:8", 5 + 22 / 8)])
def test_bits_of_a_weight(name, bits):
    assert FORMATS[name].bits_per_weight == bits


def test_values_must_be_finite():
    matrix = np.ones((2, 16), np.float32)
    matrix[1, 3] = np.nan
    with pytest.raises(FormatError, match=r"^values must be finite, not nan \(row 1, column 3\)$"):
        codec.quantize(FORMATS["tasd-2:4"], matrix)


def test_a_value_in_two_terms():
    fmt = FORMATS["tasd-2:8+1:8"]
    encoded = codec.quantize(fmt, wide(2, 64))
    encoded.fields["inner1"][1, 2, 1] = encoded.fields["inner0"][1, 2, 2]
    with pytest.raises(FormatError, match=r"^a value must lie in one term, not in two \(row 1, column 4[0-7]\)$"):
        codec.dequantize(fmt, encoded)


def test_records_that_no_encoder_writes():
    fmt = FORMATS["tasd-4:8+2:8"]
    encoded = codec.quantize(fmt, wide(2, 64))
    encoded.fields["inner1"][0, 3, 2:4] = 5, 4
    with pytest.raises(FormatError, match=r"^inner1 must be strictly increasing and below 8 in a group, "
                                          r"not \[5, 4\] \(row 0, block 3\)$"):
        codec.dequantize(fmt, encoded)


@pytest.mark.parametrize(("terms", "text"), [
    ((), r"^SeriesFormat\.terms must be at least one \(N, M\), not \(\)$"),
    (((2, 4), (3, 2)), (r"^a term N:M of SeriesFormat must have 1 ≤ N ≤ M and M at least 2 and a divisor of the block "
                        r"\(16\), not 3:2$")),
    (((2, 5),), r"^a term N:M of SeriesFormat .*, not 2:5$"),
    (((1, 1),), r"^a term N:M of SeriesFormat .*, not 1:1$"),
    (((0, 4),), r"^a term N:M of SeriesFormat .*, not 0:4$"),
])
def test_terms_that_are_no_patterns(terms, text):
    with pytest.raises(ConfigError, match=text):
        dataclasses.replace(FORMATS["tasd-2:4"], terms=terms)


def test_a_block_is_whole_groups_of_every_term():
    assert (format_named("tasd-3:5").block, format_named("tasd-1:3+2:32").block) == (80, 96)
