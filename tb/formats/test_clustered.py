"""Clustered formats: coded as a plain reference codes, dequantized exactly, with tables as good as the known optimum."""

import math
import struct
from fractions import Fraction

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.families import ClusteredFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError, dequantize, quantize
from sw.formats.clustered import ClusteredCodec
from sw.formats.codec import Encoded
from sw.formats.kmeans import fit_table

CODEC = ClusteredCodec()


def clustered(block: int, bits: int = 4, fraction: float = 0.01) -> ClusteredFormat:
    return ClusteredFormat(family="x", block=block, code_bits=bits, outlier_fraction=fraction, doc="", source="")


def half(value: float) -> float:
    """Return the float16 nearest to a float64, ties to even."""
    return struct.unpack("<e", struct.pack("<e", value))[0]


def half_up(value: float) -> float:
    """Return the least float16 that is ≥ a positive value."""
    near = struct.unpack("<H", struct.pack("<e", value))[0]
    return next(v for w in range(max(near - 1, 0), near + 2) if (v := struct.unpack("<e", struct.pack("<H", w))[0]) >= value)


def single(value: Fraction) -> float:
    """Return the float32 nearest to an exact value that is a normal number, ties to even."""
    if value == 0:
        return 0.0
    step = Fraction(2) ** (math.frexp(float(abs(value)))[1] - 24)
    if abs(value) / step < 1 << 23:                         # float() had rounded up to a power of two
        step /= 2
    return float(round(value / step) * step)


def reference(values: list[float], tail: int,
              table: list[float]) -> tuple[list[int], float, float, dict[int, float], list[float]]:
    """Return codes, half_range, middle, outliers and values of one block."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    apart = set(order[:tail])
    rest = sorted((i for i in range(len(values)) if i not in apart), key=lambda i: (values[i], i))
    apart |= set(rest[:tail])
    kept = [values[i] for i in rest[tail:]]
    middle = half((max(kept) + min(kept)) / 2)
    half_range = half_up(max(max(kept) - middle, middle - min(kept)))
    codes, results = [], []
    for i, x in enumerate(values):
        normalized = Fraction((x - middle) / (half_range or 1.0))
        assert i in apart or abs(normalized) <= 1 or not half_range
        codes.append(min(range(len(table)), key=lambda c: (abs(Fraction(table[c]) - normalized), c)))
        results.append(half(x) if i in apart else single(Fraction(table[codes[-1]]) * Fraction(half_range) + Fraction(middle)))
    return codes, half_range, middle, {i: half(values[i]) for i in sorted(apart)}, results


def cases(block: int) -> np.ndarray:
    """Return rows of every kind: ordinary, equal values, zeros, tiny, huge, cancelling."""
    rng = np.random.default_rng(block)
    normal = rng.standard_normal((12, block))
    return np.stack([
        normal[0], rng.standard_t(3, block), rng.integers(-3, 4, block), np.full(block, -2.5), np.zeros(block),
        normal[1] * 2.0**-24, normal[2] * 2.0**-40, normal[3] * 15000, np.where(normal[4] > 0, 65504, -65504), normal[5] + 100,
        normal[6] * 1e-3 - 7, np.sign(normal[7]) * 2.0**-14 * (1 + np.arange(block) / 512),
    ]).astype(np.float32)


@pytest.mark.parametrize(("block", "bits", "fraction"), [
    (128, 4, 0.01), (128, 2, 0.01), (100, 3, 0.05), (401, 4, 0.01), (16, 1, 0.3), (3, 2, 0.5), (2, 3, 0.01), (1, 4, 0.01),
    (20, 4, 0)])
def test_coded_as_the_reference_codes(block, bits, fraction):
    fmt = clustered(block, bits, fraction)
    assert fmt.tail == min(math.ceil(fraction / 2 * block), (block - 1) // 2)
    values = np.concatenate((cases(block), cases(block)[::-1]), axis=1)
    encoded = CODEC.quantize(fmt, values)
    results = CODEC.dequantize(fmt, encoded)
    fields, table = encoded.fields, encoded.side["table"]
    assert table.dtype == np.float16
    assert np.all(np.diff(table) >= 0)
    assert {name: field.dtype for name, field in fields.items()} == {
        field.name: np.uint8 if field.width <= 8 else np.uint16 for field in fmt.word.fields}
    for row, column in np.ndindex(len(values), 2):
        part = values[row, column * block:(column + 1) * block]
        codes, half_range, middle, outliers, exact = reference(part.astype(np.float64).tolist(), fmt.tail, table.tolist())
        assert fields["codes"][row, column].tolist() == codes
        assert fields["half_range"][row, column].view(np.float16).tolist() == [half_range]
        assert fields["middle"][row, column].view(np.float16).tolist() == [middle]
        if fmt.tail:
            assert fields["outlier_position"][row, column].tolist() == list(outliers)
            assert fields["outlier_value"][row, column].view(np.float16).tolist() == list(outliers.values())
        assert results[row, column * block:(column + 1) * block].tolist() == exact


def test_every_code_with_extreme_scales_is_rounded_once():
    rng = np.random.default_rng(1)
    fmt = clustered(1)
    table = rng.integers(0, 0x7C00, 16).astype(np.uint16).view(np.float16)
    half_range, middle = (rng.integers(0, 0x7C00, 3000).astype(np.uint16) for _ in range(2))
    middle |= rng.integers(0, 2, middle.size).astype(np.uint16) << 15
    codes = rng.integers(0, 16, half_range.size).astype(np.uint8)
    fields = {"codes": codes, "half_range": half_range, "middle": middle}
    encoded = Encoded(fields={name: array.reshape(1, -1, 1) for name, array in fields.items()}, side={"table": table})
    got = CODEC.dequantize(fmt, encoded)
    levels, scales, shifts = table[codes], half_range.view(np.float16), middle.view(np.float16)
    assert got[0].tolist() == [single(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
                               for a, b, c in zip(levels, scales, shifts, strict=True)]


@pytest.mark.parametrize(("bits", "optimum"), [(4, 0.009497), (3, 0.03454), (2, 0.1175), (1, 0.3634)])
def test_table_of_a_normal_distribution_is_that_of_lloyd_and_max(bits, optimum):
    rng = np.random.default_rng(bits)
    fitted, fresh = rng.standard_normal((2, 400_000)) / 8   # float16 levels are finest below 1
    table = fit_table(fitted, bits).astype(np.float64)
    error = np.abs(fresh[:, None] - table).min(axis=1) if bits < 4 else np.concatenate(
        [np.abs(part[:, None] - table).min(axis=1) for part in np.split(fresh, 8)])
    mse = (error**2).mean() * 64
    assert abs(mse / optimum - 1) < 0.01
    assert np.allclose(table, -table[::-1], atol=0.004)


def test_weights_count_like_repetitions():
    rng = np.random.default_rng(2)
    values, weights = rng.uniform(-1, 1, 500), rng.integers(0, 5, 500)
    assert fit_table(values, 3, weights).tolist() == fit_table(values.repeat(weights), 3).tolist()
    assert fit_table(values, 3, weights * 0.125).tolist() == fit_table(values, 3, weights).tolist()
    assert fit_table(values, 3, weights).tolist() != fit_table(values, 3).tolist()


def test_order_does_not_matter_where_all_values_are_taken():
    values = np.random.default_rng(3).uniform(-1, 1, 1000)
    assert fit_table(values.reshape(10, 100), 4).tolist() == fit_table(np.sort(values), 4).tolist()


@pytest.mark.parametrize("distinct", [1, 2, 5, 16])
def test_few_distinct_values_all_become_levels(distinct):
    """Most values are equal, so that quantiles alone would leave most levels without any."""
    values = np.concatenate((np.zeros(10_000), np.arange(distinct) / 16))
    table = fit_table(values, 4)
    assert set((np.arange(distinct) / 16).tolist()) <= set(table.tolist())


def test_table_of_many_values_is_nearly_that_of_all():
    values = np.random.default_rng(4).standard_normal((1 << 10, 1 << 10)) / 8
    table = fit_table(values, 4)
    assert table.tolist() == fit_table(values.copy(), 4).tolist()
    column = fit_table(values * np.where(np.arange(1 << 10) % 2, 1, 0.01), 4)       # a selection of even columns would be narrow
    assert column[-1] > 0.5 * table[-1]


@pytest.mark.parametrize(("name", "others"), [
    ("kvquant4-g128", ("int4-asym-g128", "nf4-g128")), ("kvquant3-g128", ("int3-asym-g128",))])
def test_heavy_tails_are_kept_better_than_by_other_formats(name, others):
    values = np.random.default_rng(5).standard_t(5, (512, 1024)).astype(np.float32)

    def mse(fmt: str) -> float:
        return float(((dequantize(quantize(values, fmt)) - values) ** 2).mean())

    assert all(mse(name) < 0.75 * mse(other) for other in others)


def test_stored_size_counts_outliers_and_table():
    values = np.random.default_rng(6).standard_normal((64, 512)).astype(np.float32)
    tensor = quantize(values, "kvquant4-g128")
    assert tensor.format.bits_per_weight == 4 + (32 + 2 * (7 + 16)) / 128
    assert tensor.bits_per_weight == 8 * (74 / 128 + 32 / values.size)      # 590 bits of a block are stored in 74 bytes
    assert format_named("kvquant4-g4096").tail == 21        # the cap that KVQuant gives for a tail of 4096 channels


def test_vectors_lie_along_the_axis():
    """K per channel: one channel of large values does not disturb the others when vectors lie along the tokens."""
    keys = np.random.default_rng(7).standard_normal((256, 64)).astype(np.float32)
    keys[:, 5] = keys[:, 5] * 0.1 + 50
    channels = dequantize(quantize(keys, "kvquant3-g128", axis=0))
    tokens = dequantize(quantize(keys, "kvquant3-g64", axis=1))
    others = np.arange(64) != 5
    assert ((channels - keys)[:, 5] ** 2).mean() < 0.01 * ((tokens - keys)[:, 5] ** 2).mean() + 1e-3
    assert ((channels - keys)[:, others] ** 2).mean() < 0.1


def test_table_from_calibration():
    values = np.random.default_rng(8).standard_normal((4, 256)).astype(np.float32)
    fmt = FORMATS["kvquant3-g128"]
    table = np.linspace(-1, 1, 8).astype(np.float16)
    encoded = CODEC.quantize(fmt, values, table=table)
    assert encoded.side["table"].tolist() == table.tolist()
    assert np.abs(CODEC.dequantize(fmt, encoded) - values).max() < 0.6
    for wrong, message in ((table[::-1], r"^table must be increasing$"),
                           (table[:4], r"^table must be 8 float16 levels, not float16 of shape \(4,\)$"),
                           (table.astype(np.float32), r"^table must be 8 float16 levels, not float32 of shape \(8,\)$"),
                           (table * np.float16(np.inf), r"^levels of the table must be finite, not -inf$")):
        with pytest.raises(FormatError, match=message):
            CODEC.quantize(fmt, values, table=wrong)


@pytest.mark.parametrize(("value", "message"), [
    (np.nan, r"^values must be finite, not nan \(row 1, column 2\)$"),
    (-np.inf, r"^values must be finite, not -inf \(row 1, column 2\)$"),
    (65505.0, r"^values must be within ±65504, not 65505\.0 \(row 1, column 2\)$"),
    (-1e6, r"^values must be within ±65504, not -1000000\.0 \(row 1, column 2\)$")])
def test_values_that_float16_does_not_have(value, message):
    values = np.zeros((2, 128), np.float32)
    values[1, 2] = value
    with pytest.raises(FormatError, match=message):
        quantize(values, "kvquant4")


@pytest.mark.parametrize(("arguments", "message"), [
    (([], 4), r"^a table must be fitted to at least one value, not to none$"),
    (([0.0, np.nan], 4), r"^values must be finite, not nan$"),
    (([0.0, 1.0], 4, [1.0]), r"^weights must be as many as values, 2, not 1$"),
    (([0.0, 1.0], 4, [1.0, -1.0]), r"^weights must be finite, 0 or more, and not all 0$"),
    (([0.0, 1.0], 4, [np.inf, 1.0]), r"^weights must be finite, 0 or more, and not all 0$"),
    (([0.0, 1.0], 4, [0.0, 0.0]), r"^weights must be finite, 0 or more, and not all 0$")])
def test_tables_that_cannot_be_fitted(arguments, message):
    with pytest.raises(FormatError, match=message):
        fit_table(*arguments)


def test_infinite_limits_that_no_encoder_writes():
    """They decode as floats do, without a warning."""
    fmt = clustered(100)
    encoded = CODEC.quantize(fmt, np.zeros((1, 100), np.float32))
    encoded.fields["half_range"][:] = np.float16(np.inf).view(np.uint16)
    encoded.fields["middle"][:] = np.float16(-np.inf).view(np.uint16)
    encoded.side["table"][8] = 0
    encoded.fields["codes"][0, 0, 50:52] = 8, 15
    assert np.isnan(CODEC.dequantize(fmt, encoded)[0, 50:52]).all()


def test_damaged_tensors():
    fmt = clustered(100)
    encoded = CODEC.quantize(fmt, np.random.default_rng(9).standard_normal((2, 100)).astype(np.float32))
    encoded.fields["outlier_position"][1, 0, 1] = 101
    with pytest.raises(FormatError, match=r"^outlier_position must be below 100, not 101$"):
        CODEC.dequantize(fmt, encoded)
    with pytest.raises(FormatError, match=r"^table must be 16 float16 levels, not float64 of shape \(16,\)$"):
        CODEC.dequantize(fmt, Encoded(fields=encoded.fields, side={"table": np.zeros(16)}))


@pytest.mark.parametrize(("field", "value", "rule"), [
    ("code_bits", 0, "an integer between 1 and 8"), ("code_bits", 9, "an integer between 1 and 8"),
    ("code_bits", 2.5, "an integer between 1 and 8"), ("outlier_fraction", -0.1, "between 0 and 0.5"),
    ("outlier_fraction", 0.6, "between 0 and 0.5"), ("block", 0, "at least 1")])
def test_bad_formats(field, value, rule):
    fields = {"family": "x", "doc": "", "source": "", "block": 4, "code_bits": 2} | {field: value}
    with pytest.raises(ConfigError, match=rf"^ClusteredFormat\.{field} must be {rule}, not {value}$"):
        ClusteredFormat(**fields)
