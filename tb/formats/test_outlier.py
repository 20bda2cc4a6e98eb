"""SDQ: blocks against plain Python and ml_dtypes, and what the two kinds of values owe each other."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from hw.errors import ConfigError
from hw.families import OutlierFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError
from sw.formats.outlier import OutlierCodec, outlier_lanes
from sw.packing import field_dtype
from tb.formats.structure import formats_of, groups_of, largest, samples, wide

PATTERNS = formats_of(OutlierFormat, "sdq-7:8-1:8int8-6:8fp4-g16", "sdq-3:4-1:4int8-2:4fp4-g4")
PATTERNS.append(dataclasses.replace(PATTERNS[0], family="groups of 20", block=40, group=20, outliers=3, inliers=9))
FP4 = ml_dtypes.float4_e2m1fn
SDQ = FORMATS["sdq-7:8-1:8int8-6:8fp4-g64"]
codec = OutlierCodec()
each_pattern = pytest.mark.parametrize("fmt", PATTERNS, ids=lambda fmt: fmt.name)


def scale_of(values: list[float], levels: int) -> np.float32:
    """Return the float16 scale of a kind: amax / levels in float32, then to float16; 1 for zeros, for others not 0."""
    peak = np.float32(max(map(abs, values)))
    return np.float32(max(np.float16(peak / np.float32(levels)), np.float16(2.0**-24)) if peak else 1)


def block_of(fmt: OutlierFormat, block: np.ndarray) -> tuple[dict[str, list[int]], np.ndarray]:
    """Return the fields of a block and its values, by the definition."""
    masks, places, high, low, where_high, where_low = [], [], [], [], [], []
    for index, group in enumerate(groups_of(block.tolist(), fmt.group)):
        outliers = largest(group, fmt.outliers)
        rest = [0.0 if place in outliers else value for place, value in enumerate(group)]
        order = sorted((place for place in range(fmt.group) if place not in outliers), key=lambda p: (-abs(rest[p]), p))
        inliers = sorted(order[:fmt.inliers])
        places += outliers
        masks.append(sum(1 << place for place in inliers))
        high += [group[place] for place in outliers]
        low += [group[place] for place in inliers]
        where_high += [index * fmt.group + place for place in outliers]
        where_low += [index * fmt.group + place for place in inliers]
    high_scale, low_scale = scale_of(high, 127), scale_of(low, 6)
    integers = [max(-127, min(127, round(float(np.float32(value) / high_scale)))) for value in high]
    codes = np.clip(np.array(low, np.float32) / low_scale, -6, 6).astype(FP4)
    codes[codes == 0] = 0                                   # one zero, whatever its sign
    values = np.zeros(fmt.block, np.float32)
    values[where_high] = np.array(integers, np.float32) * high_scale
    values[where_low] = codes.astype(np.float32) * low_scale
    fields = {"outliers": np.array(integers, np.int8).view(np.uint8).tolist(), "outlier_inner": places,
              "inliers": codes.view(np.uint8).tolist(), "inlier_mask": masks,
              "outlier_scale": [int(np.float16(high_scale).view(np.uint16))],
              "inlier_scale": [int(np.float16(low_scale).view(np.uint16))]}
    return fields, values


@each_pattern
def test_blocks_by_the_definition(fmt):
    matrix = samples(3 * fmt.block, seed=1)
    encoded = codec.quantize(fmt, matrix)
    restored = codec.dequantize(fmt, encoded)
    assert {name: array.shape for name, array in encoded.fields.items()} == {
        field.name: (9, 3, field.count) for field in fmt.word.fields}
    for field in fmt.word.fields:
        assert encoded.fields[field.name].dtype == field_dtype(field.width)
    assert encoded.side == {}
    for row in range(len(matrix)):
        for block, values in enumerate(groups_of(matrix[row], fmt.block)):
            fields, want = block_of(fmt, values)
            assert {name: array[row, block].tolist() for name, array in encoded.fields.items()} == fields
            assert restored[row, block * fmt.block:(block + 1) * fmt.block].tolist() == want.tolist()


@each_pattern
def test_how_many_of_each_kind(fmt):
    matrix = wide(64, 4 * fmt.block, seed=2)
    outliers, inliers = outlier_lanes(fmt, codec.quantize(fmt, matrix))
    magnitude = np.abs(matrix).reshape(-1, fmt.group)
    is_outlier, is_inlier = (lanes.reshape(-1, fmt.group) != 0 for lanes in (outliers, inliers))
    assert not (is_outlier & is_inlier).any()
    assert (np.count_nonzero(is_outlier, axis=1) <= fmt.outliers).all()
    assert (np.count_nonzero(is_inlier, axis=1) <= fmt.inliers).all()
    least_outlier = np.where(is_outlier, magnitude, np.inf).min(axis=1)
    assert (least_outlier >= np.where(is_inlier, magnitude, 0).max(axis=1)).all()
    assert is_outlier.any(axis=1).all()
    assert is_inlier.any()


def signal_to_noise(values: np.ndarray, restored: np.ndarray) -> float:
    return 10 * np.log10((values.astype(float) ** 2).sum() / ((restored.astype(float) - values) ** 2).sum())


@pytest.mark.parametrize("fmt", formats_of(OutlierFormat), ids=lambda fmt: fmt.name)
def test_better_than_fp4_alone(fmt):
    for outlier_share, least_gain in ((0.03, 5.0), (0.0, 0.0)):
        if not outlier_share and fmt.outliers + fmt.inliers < 7:
            continue                                        # Gaussian values lose more with two of eight dropped than they gain
        factors = np.random.default_rng(3).choice([1, 12], (128, 512), p=[1 - outlier_share, outlier_share])
        matrix = wide(128, 512, seed=3) * factors.astype(np.float32)
        vectors = matrix.reshape(-1, fmt.block)
        scale = (np.abs(vectors).max(axis=1, keepdims=True) / np.float32(6)).astype(np.float16).astype(np.float32)
        plain = np.clip(vectors / scale, -6, 6).astype(FP4).astype(np.float32) * scale
        gain = (signal_to_noise(matrix, codec.dequantize(fmt, codec.quantize(fmt, matrix)))
                - signal_to_noise(matrix, plain.reshape(matrix.shape)))
        assert gain > least_gain


def test_ties_of_fp4():
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    near = sorted(sign * value for tie in ties for value in (np.nextafter(np.float32(tie), np.float32(0)), tie,
                                                             np.nextafter(np.float32(tie), np.float32(9))) for sign in (1, -1))
    block = np.zeros((1, 64), np.float32)
    inlier_places = [place for place in range(64) if place % 8][:len(near)]
    block[0, ::8] = 127
    block[0, inlier_places] = near
    block[0, 63] = 6                                        # the scale is 1
    encoded = codec.quantize(FORMATS["sdq-8:8-1:8int8-7:8fp4-g64"], block)
    assert encoded.fields["inlier_scale"].view(np.float16).item() == 1
    got = encoded.fields["inliers"][0, 0, :len(near)]
    want = np.array(near, np.float32).astype(FP4)
    assert got.tolist() == np.where(want == 0, 0, want.view(np.uint8)).tolist()


@pytest.mark.parametrize(("name", "bits", "values"), [
    ("sdq-7:8-1:8int8-6:8fp4-g64", 4.0, "1:8"), ("sdq-8:8-1:8int8-7:8fp4-g64", 4.5, "1:8"),
    ("sdq-6:8-2:8int8-4:8fp4-g64", 4.0, "2:8"), ("sdq-3:4-1:4int8-2:4fp4-g64", 4.0, "1:4")])
def test_bits_of_a_weight(name, bits, values):
    fmt = FORMATS[name]
    width = {field.name: field.bits / fmt.block for field in fmt.word.fields}
    assert width["outliers"] + width["inliers"] == bits
    outliers, of = (int(number) for number in values.split(":"))
    metadata = outliers * (3 if of == 8 else 2) / of + 1 + 2 * 16 / 64       # coordinates, mask, two scales
    assert fmt.bits_per_weight == bits + metadata


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(value):
    matrix = np.ones((2, 64), np.float32)
    matrix[0, 63] = value
    with pytest.raises(FormatError, match=rf"^values must be finite, not {value} \(row 0, column 63\)$"):
        codec.quantize(SDQ, matrix)


@pytest.mark.parametrize(("what", "count", "levels"), [("outliers", 1, 127), ("inliers", 2, 6)])
def test_scales_that_no_float16_holds(what, count, levels):
    matrix = np.ones((3, 192), np.float32)
    matrix[2, 130:130 + count] = np.float32(65519.0 * levels)                   # rounds to 65504
    codec.quantize(SDQ, matrix)
    matrix[2, 130:130 + count] = np.float32(65520.0 * levels)
    with pytest.raises(FormatError, match=rf"^the scale of {what} must be at most 65504 to be a float16, "
                                          rf"not 65520 \(row 2, block 2\)$"):
        codec.quantize(SDQ, matrix)


def test_blocks_too_small_for_float16():
    for value, integer in ((1e-9, 0), (2.0**-24, 1), (127.4 * 2.0**-24, 127), (1.4 * 127 * 2.0**-24, 127)):
        encoded = codec.quantize(SDQ, np.full((1, 64), value, np.float32))
        assert encoded.fields["outlier_scale"].item() == 1  # the code of the least float16
        assert outlier_lanes(SDQ, encoded)[0].max() == integer
    encoded = codec.quantize(SDQ, np.zeros((1, 64), np.float32))
    assert encoded.fields["outlier_scale"].view(np.float16).item() == encoded.fields["inlier_scale"].view(np.float16).item() == 1


@pytest.mark.parametrize(("field", "codes", "text"), [
    ("inlier_mask", 0x3e, r"^inlier_mask must have 6 bits set, none an outlier's, not 0x3e \(row 1, block 1\)$"),
    ("inlier_mask", 0x7f, r"^inlier_mask must have 6 bits set, none an outlier's, not 0x7f \(row 1, block 1\)$"),
    ("outlier_inner", 2, r"^inlier_mask must have 6 bits set, none an outlier's, not 0x7e \(row 1, block 1\)$"),
])
def test_blocks_that_no_encoder_writes(field, codes, text):
    encoded = codec.quantize(SDQ, np.tile(np.float32([9, 1, 1, 1, 1, 1, 1, 0.5]), (2, 16)))
    assert encoded.fields["inlier_mask"][1, 1, 3] == 0x7e
    encoded.fields[field][1, 1, 3] = codes
    with pytest.raises(FormatError, match=text):
        codec.dequantize(SDQ, encoded)


def test_outliers_out_of_order():
    fmt = FORMATS["sdq-6:8-2:8int8-4:8fp4-g64"]
    encoded = codec.quantize(fmt, wide(1, 64))
    encoded.fields["outlier_inner"][0, 0, :2] = 4, 4
    with pytest.raises(FormatError, match=r"^outlier_inner must be strictly increasing and below 8 in a group, "
                                          r"not \[4, 4\] \(row 0, block 0\)$"):
        codec.dequantize(fmt, encoded)


@pytest.mark.parametrize(("change", "text"), [
    ({"group": 1}, r"^OutlierFormat\.group must be between 2 and 32 and divide the block \(64\), not 1$"),
    ({"block": 20}, r"^OutlierFormat\.group must be between 2 and 32 and divide the block \(20\), not 8$"),
    ({"block": 0}, r"^OutlierFormat\.group must be between 2 and 32 and divide the block \(0\), not 8$"),
    ({"outliers": 0}, (r"^OutlierFormat\.outliers and inliers must each be at least 1 and together at most 8 \(group\), "
                       r"not 0 and 6$")),
    ({"inliers": 8}, r"^OutlierFormat\.outliers and inliers must each .* not 1 and 8$"),
])
def test_kinds_that_do_not_fit(change, text):
    with pytest.raises(ConfigError, match=text):
        dataclasses.replace(SDQ, **change)


def test_a_size_that_is_no_whole_groups():
    with pytest.raises(ConfigError, match=r"^OutlierFormat\.group must be between 2 and 32 and divide the block \(20\), not 8$"):
        format_named("sdq-7:8-1:8int8-6:8fp4-g20")
