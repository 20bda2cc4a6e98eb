"""N:M and HSS patterns: records against plain Python, a group at a time, and against every choice that a pattern has."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.families import SparseFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError, dequantize, quantize
from sw.formats.groups import ranks
from sw.formats.rows import quantize_rows
from sw.formats.sparse import SparseCodec, keep_masks, lanes
from tb.formats.structure import best, formats_of, groups_of, int8_row, largest, samples, wide

PATTERNS = formats_of(SparseFormat, "1:1", "3:5", "7:40", "hss-2:3-3:7", "hss-1:9-1:5", "hss-3:40-1:2")
MODES = {(outer, inner): f"hss-4:{outer}-2:{inner}" for outer in (4, 5, 6, 7, 8) for inner in (2, 3, 4)}
DENSITIES = {                                               # HighLight's modes: H1 → density for H0 = 2, 3, 4
    4: (1.0, 0.6667, 0.5), 5: (0.8, 0.5333, 0.4), 6: (0.6667, 0.4444, 0.3333), 7: (0.5714, 0.3810, 0.2857),
    8: (0.5, 0.3333, 0.25),
}
codec = SparseCodec()
each_pattern = pytest.mark.parametrize("fmt", PATTERNS, ids=lambda fmt: fmt.name)


def record_of(fmt: SparseFormat, block: list[float], q: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Return values, outer and inner coordinates of a block whose integers are `q`, decided on its floats, by the definition."""
    inner = [largest(group, fmt.inner_keep) for group in groups_of(block, fmt.inner_of)]
    score = []
    for places, group in zip(inner, groups_of(block, fmt.inner_of), strict=True):
        total = 0.0
        for place in places:
            total += float(group[place]) ** 2
        score.append(total)
    outer = largest(score, fmt.outer_keep)
    values = [q[index * fmt.inner_of + place] for index in outer for place in inner[index]]
    return values, outer, [place for index in outer for place in inner[index]]


def choices(fmt: SparseFormat) -> int:
    """Return how many ways there are to keep values of a block, and blocks."""
    return math.comb(fmt.inner_of, fmt.inner_keep) + math.comb(fmt.outer_of, fmt.outer_keep)


def signed(codes):
    return codes.view(np.int8).ravel().tolist()


@each_pattern
def test_records_by_the_definition(fmt):
    matrix = samples(3 * fmt.block, seed=1)
    encoded = codec.quantize(fmt, matrix)
    assert set(encoded.fields) == {field.name for field in fmt.word.fields}
    assert set(encoded.side) == set(fmt.side)
    for index, row in enumerate(matrix):
        q, scale = int8_row(row)
        assert encoded.side["row_scale"][index] == scale
        for number, (block, integers) in enumerate(zip(groups_of(row, fmt.block), groups_of(q, fmt.block), strict=True)):
            values, outer, inner = record_of(fmt, block.tolist(), integers)
            assert signed(encoded.fields["values"][index, number]) == values
            assert encoded.fields["inner"][index, number].tolist() == inner
            if fmt.outer_bits:
                assert encoded.fields["outer"][index, number].tolist() == outer
            else:
                assert "outer" not in encoded.fields


@each_pattern
def test_fields_have_the_shapes_and_types_of_the_table(fmt):
    encoded = codec.quantize(fmt, samples(2 * fmt.block))
    for field in fmt.word.fields:
        assert encoded.fields[field.name].shape == (9, 2, field.count)
        assert encoded.fields[field.name].dtype == np.uint8
        if field.name != "values":
            assert encoded.fields[field.name].max() < 1 << field.width


@each_pattern
def test_what_is_kept_is_the_int8_value_and_the_rest_is_zero(fmt):
    matrix = samples(4 * fmt.block, seed=2)
    encoded = codec.quantize(fmt, matrix)
    restored = codec.dequantize(fmt, encoded)
    assert restored.dtype == np.float32
    for row, got, integers in zip(matrix, restored, lanes(fmt, encoded), strict=True):
        q, scale = int8_row(row)
        outer, inner = keep_masks(fmt, np.abs(row)[None])
        kept = (inner & outer[..., None]).ravel()
        assert integers.tolist() == np.where(kept, q, 0).tolist()
        assert got.tolist() == [float(np.float32(value * scale)) for value in integers]


@pytest.mark.parametrize("fmt", [fmt for fmt in PATTERNS if choices(fmt) < 10_000], ids=lambda fmt: fmt.name)
def test_no_choice_keeps_more(fmt):
    significance = np.abs(wide(2, 2 * fmt.block, seed=3))
    outer, inner = keep_masks(fmt, significance)
    kept = np.where(inner & outer[..., None], significance.reshape(inner.shape), 0).astype(np.float64)
    for block, got in zip(significance.reshape(-1, fmt.block), (kept**2).sum(axis=(2, 3)).ravel(), strict=True):
        energies = [best(group, fmt.inner_keep) for group in groups_of(block.astype(np.float64).tolist(), fmt.inner_of)]
        assert got == pytest.approx(max(sum(some) for some in itertools.combinations(energies, fmt.outer_keep)), rel=1e-12)


@pytest.mark.parametrize("unit", [1e25, 1.0, 1e-25])
def test_blocks_compare_where_float32_has_no_squares(unit):
    fmt = FORMATS["hss-4:5-2:3"]
    sizes = np.array([3, 5, 2, 4, 2 + 2.0**-20], np.float32) * np.float32(unit)
    outer, _ = keep_masks(fmt, np.repeat(sizes, 3)[None])
    assert outer[0, 0].tolist() == [True, True, False, True, True]


def test_ties_of_int8():
    halves = np.arange(-126.5, 127, 1, dtype=np.float32)
    q, scale = quantize_rows(np.append(halves, np.float32(127))[None])
    assert scale.tolist() == [1]
    assert q[0].tolist() == [*(round(float(value)) for value in halves), 127]
    assert (q[0, :-1] % 2 == 0).all()


def test_every_mode_of_highlight_is_listed_at_its_density():
    assert {fmt.name for fmt in PATTERNS if fmt.name.startswith("hss-4")} == set(MODES.values())
    densities = set()
    for (outer, inner), name in MODES.items():
        fmt = FORMATS[name]
        values = codec.dequantize(fmt, codec.quantize(fmt, np.full((4, 6 * fmt.block), 0.5, np.float32)))
        density = np.count_nonzero(values) / values.size
        assert density == pytest.approx(DENSITIES[outer][inner - 2], abs=5e-5)
        assert (fmt.word.bits, fmt.word.bytes) == (92, 12)
        densities.add(round(density, 9))
    assert len(densities) == 12                             # 15 modes, of which some are as dense as others


@pytest.mark.parametrize(("name", "bits"), [("2:4", 5.0), ("1:4", 2.5), ("4:8", 5.5), ("hss-4:4-2:2", 92 / 8),
                                            ("hss-4:8-2:4", 92 / 32), ("hss-4:5-2:3", 92 / 15)])
def test_bits_of_a_weight(name, bits):
    assert FORMATS[name].bits_per_weight == bits


@pytest.mark.parametrize("name", ["2:4", "4:8", "hss-4:5-2:3", "hss-4:8-2:4"])
def test_what_is_sparse_already_is_kept_whole(name):
    fmt = FORMATS[name]
    matrix = codec.dequantize(fmt, codec.quantize(fmt, wide(8, 8 * fmt.block, seed=4)))
    assert 0 < np.count_nonzero(matrix) < matrix.size
    scale = np.abs(matrix).max(axis=1) / np.float32(127)
    again = codec.dequantize(fmt, codec.quantize(fmt, matrix))
    assert (again == np.rint(matrix / scale[:, None]).astype(np.float32) * scale[:, None]).all()


@pytest.mark.parametrize("of", [2, 5, 8, 31, 32, 33, 64, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_ranks(of, dtype):
    rng = np.random.default_rng(of)
    groups = rng.integers(0, of, (40, of)).astype(dtype)    # with ties
    got = ranks(groups)
    assert got.dtype == (np.uint8 if of < 256 else np.uint16)
    for group, places in zip(groups.tolist(), got.tolist(), strict=True):
        assert [places.index(rank) for rank in range(of)] == sorted(range(of), key=lambda place: (-group[place], place))


def test_ranks_of_more_groups_than_are_ranked_at_a_time():
    groups = np.random.default_rng(0).standard_normal((3, 50_001, 4)).astype(np.float32)
    assert (ranks(groups) == np.argsort(np.argsort(-groups, axis=-1), axis=-1)).all()


def test_scales_of_tiny_rows():
    matrix = np.zeros((4, 16), np.float32)
    matrix[:, ::3] = np.array([0, 1e-44, 1.9e-43, 1e-40], np.float32)[:, None]
    encoded = codec.quantize(FORMATS["2:4"], matrix)
    scale = encoded.side["row_scale"].astype(float)
    assert (scale[0], scale[1], scale[2]) == (1, 2.0**-149, 2.0**-149)
    assert lanes(FORMATS["2:4"], encoded).max(axis=1).tolist() == [0, 7, 127, 127]      # 1.9e-43 is 136 · 2^−149


def test_a_pattern_that_keeps_all_is_int8():
    matrix = samples(64, seed=7)
    q = quantize(matrix, "1:1")
    assert (dequantize(q) == dequantize(quantize(matrix, "int8"))).all()
    assert (q.encoded.fields["values"].reshape(9, 64) == quantize(matrix, "int8").encoded.fields["codes"][..., 0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(value):
    matrix = np.ones((3, 32), np.float32)
    matrix[1, 20] = matrix[2, 0] = value
    with pytest.raises(FormatError, match=rf"^values must be finite, not {value} \(row 1, column 20\)$"):
        codec.quantize(FORMATS["2:4"], matrix)


@pytest.mark.parametrize(("field", "places", "text"), [
    ("inner", [0, 3], r"^inner must be strictly increasing and below 3 in a group, not \[0, 3\] \(row 1, block 2\)$"),
    ("inner", [1, 1], r"^inner must be strictly increasing and below 3 in a group, not \[1, 1\] \(row 1, block 2\)$"),
    ("outer", [0, 2, 1, 3], r"^outer must be strictly increasing and below 5 in a group, not \[0, 2, 1, 3\] \(row 1, block 2\)$"),
])
def test_records_that_no_encoder_writes(field, places, text):
    fmt = FORMATS["hss-4:5-2:3"]
    encoded = codec.quantize(fmt, wide(3, 4 * fmt.block))
    encoded.fields[field][1, 2, :len(places)] = places
    with pytest.raises(FormatError, match=text):
        codec.dequantize(fmt, encoded)


@pytest.mark.parametrize(("change", "text"), [
    ({"inner_keep": 5}, r"^SparseFormat\.inner_keep must be between 1 and 4 \(inner_of\), not 5$"),
    ({"outer_keep": 0}, r"^SparseFormat\.outer_keep must be between 1 and 8 \(outer_of\), not 0$"),
    ({"inner_of": 0}, r"^SparseFormat\.inner_of must be at least 1, not 0$"),
    ({"inner_bits": 1}, r"^SparseFormat\.inner_bits must be at least 2, not 1: it counts to 3$"),
    ({"outer_bits": 0}, r"^SparseFormat\.outer_bits must be at least 3, not 0: it counts to 7$"),
    ({"block": 64}, r"^SparseFormat\.block must be outer_of·inner_of = 32, not 64$"),
    ({"block": -1}, r"^SparseFormat\.block must be an integer between 0 and 65536, not -1$"),
])
def test_patterns_that_do_not_fit(change, text):
    with pytest.raises(ConfigError, match=text):
        dataclasses.replace(FORMATS["hss-4:8-2:4"], **change)


@pytest.mark.parametrize(("name", "text"), [
    ("5:4", "inner_keep must be between 1 and 4 "), ("0:4", "inner_keep must be between 1 and 4 "),
    ("1:0", "inner_of must be at least 1, not 0$"), ("hss-5:4-2:4", "outer_keep must be between 1 and 4 "),
    ("hss-4:0-2:4", "outer_of must be at least 1, not 0$")])
def test_names_of_patterns_that_are_none(name, text):
    with pytest.raises(ConfigError, match=rf"^SparseFormat\.{text}"):
        format_named(name)
