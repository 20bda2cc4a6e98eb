"""Tensors in number formats: axes, types, bad input."""

import dataclasses
import doctest
import re

import ml_dtypes
import numpy as np
import pytest

import sw.formats
from hw.elements import Element
from hw.errors import ConfigError
from hw.families import Format, ScaledFormat
from hw.formats import FORMATS, format_named
from hw.layout import PackedField, PackedWord
from sw.formats import FormatError, QuantizedTensor, dequantize, quantize, registry
from sw.formats.codec import Encoded

SCALED = [name for name, fmt in FORMATS.items() if isinstance(fmt, ScaledFormat)]


def normal(*shape, seed=0):
    return np.abs(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def test_documented_example():
    assert doctest.testmod(sw.formats).attempted == 5
    assert doctest.testmod(sw.formats).failed == 0


@pytest.mark.parametrize("name", ["int3", "int4-g32", "bitmod4-g16", "nvfp4", "mxfp6-e3m2-b32", "bfloat16", "p3-act"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_any_axis(name, axis):
    """Along an axis as along the last of the tensor turned; blocks that the axis does not fill are padded with zeros."""
    array = normal(37, 5, 41) - 0.5
    tensor = quantize(array, name, axis=axis)
    assert tensor.axis == axis % 3
    assert tensor.shape == array.shape
    turned = quantize(np.moveaxis(array, axis, -1), name)
    assert np.array_equal(tensor.payload, turned.payload)
    values = dequantize(tensor)
    assert values.shape == array.shape
    assert np.array_equal(np.moveaxis(values, axis, -1), dequantize(turned))
    block = max(1, format_named(name).block)
    padded = np.pad(np.moveaxis(array, axis, -1), [(0, 0), (0, 0), (0, -array.shape[axis] % block)])
    assert np.array_equal(quantize(padded, name).payload, tensor.payload)
    assert tensor.columns == padded.shape[-1]


@pytest.mark.parametrize("name", SCALED)
def test_quantizing_again_changes_little(name):
    """Values of a format are its fixed points but where the scale is made anew from a value that is not the largest level."""
    values = dequantize(quantize(normal(8, 256), name))
    again = dequantize(quantize(values, name))
    if FORMATS[name].scale_rule in ("none", "floor"):
        assert np.array_equal(again, values)
    assert np.abs(again - values).max() <= 0.13 * np.abs(values).max()


def test_types_of_input():
    """Lists, integers, every float; float64 is rounded to float32 first."""
    values = [[1.0, -2.5, 0.25, 3.0], [0.5, 0.125, -1.0, 2.0]]
    wanted = quantize(np.array(values, np.float32), "int8")
    for array in (values, np.array(values), np.array(values, np.float16), np.array(values, ml_dtypes.bfloat16),
                  np.asfortranarray(np.array(values, np.float32)), np.array(values, ">f4")):
        assert np.array_equal(quantize(array, "int8").payload, wanted.payload)
    assert dequantize(quantize([[1, 2, 127]], "int8")).tolist() == [[1, 2, 127]]
    assert dequantize(quantize(np.array([3, 1], np.uint8), format_named("int4"))).dtype == np.float32
    assert quantize(np.full((1, 2), 1 + 2**-30), "float32").payload.view(np.float32).tolist() == [[1, 1]]


@pytest.mark.parametrize(("array", "text"), [
    (np.array([True]), "array must be of real numbers, not bool"),
    (np.array([1j]), "array must be of real numbers, not complex128"),
    (["a"], "array must be of real numbers, not <U1"), (np.array([1, None]), "array must be of real numbers, not object"),
    (np.zeros(2, ml_dtypes.float8_e4m3fn), "array must be of real numbers, not float8_e4m3fn"),
])
def test_types_that_are_no_numbers(array, text):
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        quantize(array, "int8")


@pytest.mark.parametrize(("array", "axis", "text"), [
    (1.0, -1, "array must have an axis and a value, not shape ()"),
    (np.zeros((0, 3)), -1, "array must have an axis and a value, not shape (0, 3)"),
    ([], 0, "array must have an axis and a value, not shape (0,)"),
    (np.zeros((2, 3)), 2, "axis must be between -2 and 1, not 2"),
    (np.zeros((2, 3)), -3, "axis must be between -2 and 1, not -3"),
])
def test_shapes_that_cannot_be(array, axis, text):
    with pytest.raises(FormatError, match=f"^{re.escape(text)}$"):
        quantize(array, "int8", axis=axis)


def test_arguments_of_other_types():
    with pytest.raises(TypeError, match=r"^format must be a name or a Format, not None$"):
        quantize([1.0], None)
    with pytest.raises(TypeError, match=r"^axis must be an integer, not 0\.5$"):
        quantize([1.0], "int8", axis=0.5)
    assert type(quantize([1.0], "int8", axis=np.int64(0)).axis) is int


def test_unknown_format():
    with pytest.raises(ConfigError, match=r"^format must be a name .* \(near it: .*bitmod4-g128.*\), not 'bitmod5-g128'$"):
        quantize([1.0], "bitmod5-g128")


@pytest.mark.parametrize("name", [name for name in SCALED if FORMATS[name].scale_rule != "none"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(name, value):
    array = normal(5, 300)
    array[3, 261] = array[4, 0] = value
    with pytest.raises(FormatError, match=rf"^values must be finite, not {value} \(row 3, column 261\)$"):
        quantize(array, name)


def test_float64_beyond_float32():
    with pytest.raises(FormatError, match=r"^values must be finite, not inf \(row 0, column 1\)$"):
        quantize([[1.0, 1e300]], "int8")
    assert dequantize(quantize([[1.0, -1e300]], "float16")).tolist() == [[1, -np.inf]]


@pytest.mark.parametrize(("value", "text"), [
    (-0.5, "values must be 0 or more in float8_s0e4m4, not -0.5 (row 1, column 2)"),
    (np.nan, "values must be numbers in float8_s0e4m4, not nan (row 1, column 2)"),
])
def test_what_an_unsigned_format_cannot_take(value, text):
    array = normal(3, 4)
    array[1, 2] = value
    with pytest.raises(FormatError, match=f"^{re.escape(text)}$"):
        quantize(array, "s0e4m4")
    array[1, 2] = -0.0
    assert quantize(array, "s0e4m4").encoded.fields["codes"][1, 2, 0] == 0


@pytest.mark.parametrize(("name", "largest", "text"), [
    ("int4-g32", 1e6, "the scale of row 2, group 3 must fit float16, not be 142857; bf16 scales hold it (option -bf16)"),
    ("nf4-g32", 65520.0, "the scale of row 2, group 3 must fit float16, not be 65520; bf16 scales hold it (option -bf16)"),
    ("int4-asym-g32", 1e6, "the scale of row 2, group 3 must fit float16, not be 66666.7; bf16 scales hold it (option -bf16)"),
    ("nf4-g32-bf16", 3.4e38, "the scale of row 2, group 3 must fit bfloat16, not be 3.4e+38; fp32 scales hold it (option -fp32)"),
])
def test_a_scale_that_overflows(name, largest, text):
    array = normal(4, 128)
    array[2, 100] = largest
    with pytest.raises(FormatError, match=f"^{re.escape(text)}$"):
        quantize(array, name)
    wider = name.replace("-bf16", "") + ("-fp32" if "bf16" in name else "-bf16")
    assert np.isfinite(dequantize(quantize(array, wider))).all()


def test_a_range_beyond_float32():
    with pytest.raises(FormatError, match=r"^the scale of row 0, group 0 must fit float32, not be inf$"):
        quantize([[3e38, -3e38]], "int8-asym-g2-fp32")


@pytest.mark.parametrize("name", SCALED)
def test_zeros_stay_zero(name):
    tensor = quantize(np.zeros((2, 256)), name)
    assert not dequantize(tensor).any()
    assert (tensor.encoded.fields["codes"] == (7 if name[:3] in ("nf4", "sf4") else 0)).all()
    if FORMATS[name].outer != "none" and FORMATS[name].scale_limits != (1e-5, 1e4):
        assert (tensor.side["outer_scale"] == 1).all()


@pytest.mark.parametrize(("name", "scale"), [
    ("int4-g32", 1.0), ("nf4-g128-bf16", 1.0), ("int4-asym-g32", 1.0), ("p3-kv-g128", 1.0), ("mxfp4-b32", 2.0**-127),
    ("mxint8-b32-ceil", 2.0**-127), ("nvfp4", 2.0**-9), ("razer", 2.0**-5), ("razer-act", 2.0**-9), ("int4-g32-int8", 0.0),
    ("bitmod4-g128", 127.0),
])
def test_scale_of_a_block_of_zeros(name, scale):
    tensor = quantize(np.zeros((1, 256)), name)
    assert {tensor.format.scale.value(int(code)) for code in tensor.encoded.fields["scale"].ravel()} == {scale}


@pytest.mark.parametrize("name", ["int4-g32", "nf4-g128", "int8-asym-g128", "int8", "mxint8-b32", "mxfp8-e5m2-b32", "nvfp4",
                                  "p3-act"])
def test_subnormal_values(name):
    """Blocks of float32 subnormals get the least scale of its type, which may be far above them; no NaN, no warning."""
    array = normal(2, 256) * np.float32(1e-42)
    values = dequantize(quantize(array, name))
    step = {"int4-g32": 2.0**-24, "nf4-g128": 2.0**-24, "int8-asym-g128": 2.0**-24, "mxint8-b32": 2.0**-133,
            "mxfp8-e5m2-b32": 2.0**-127}.get(name, 2.0**-140)
    assert np.abs(values - array).max() <= step


@pytest.mark.parametrize("name", ["int8", "int4", "p3-act", "nvfp4", "razer", "razer-act", "int4-g32-int8", "mxint8-b32",
                                  "nf4-g16-fp32"])
def test_the_smallest_float32(name):
    """The scale underflows before the value does: it is then the least there is, and zeros beside it stay zero."""
    array = np.zeros((2, 64), np.float32)
    array[0, 5] = 2.0**-149
    values = dequantize(quantize(array, name))
    assert not np.delete(values.ravel(), 5).any()
    assert values[0, 5] in (0, 2.0**-149)
    if name in ("int8", "int4", "p3-act"):
        assert np.array_equal(values, array)


@pytest.mark.parametrize("name", SCALED)
def test_largest_float32(name):
    """The largest numbers quantize, or are refused because of their scale; nothing becomes NaN."""
    array = np.full((1, 256), np.finfo(np.float32).max)
    array[0, ::3] *= -1 if "s0e4m4" not in name else 1
    if FORMATS[name].scale is not None and FORMATS[name].scale.name == "float16":
        with pytest.raises(FormatError, match=r"^the scale of row 0, group 0 must fit float16, not be (.*; bf16 scales|inf$)"):
            quantize(array, name)
        return
    values = dequantize(quantize(array, name))
    assert not np.isnan(values).any()
    assert (np.sign(values) == np.sign(array)).all()


def test_codes_of_two_complement_use_what_is_named():
    """Symmetric integers leave the most negative code; `full` uses it where the negative side is the longer."""
    array = np.array([[-8.0, 7, 1, 3], [-7, 7, 1, 3]])
    assert quantize(array, "int4-g4").encoded.fields["codes"].tolist() == [[[9, 6, 1, 3]], [[9, 7, 1, 3]]]
    full = quantize(array, "int4-g4-full")
    assert full.encoded.fields["codes"].tolist() == [[[8, 7, 1, 3]], [[9, 7, 1, 3]]]
    assert np.array_equal(dequantize(full), array)


def test_families_of_other_packages(monkeypatch):
    """A family without a codec is refused; with an entry point it is served by that."""
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Words(Format):
        @property
        def word(self):
            return PackedWord((PackedField(name="codes", width=32, doc="float32"),))

    class WordsCodec:
        def quantize(self, fmt, matrix):
            return Encoded(fields={"codes": matrix.view(np.uint32)[:, :, None]})

        def dequantize(self, fmt, encoded):
            return encoded.fields["codes"][:, :, 0].view(np.float32)

    fmt = Words(family="words", doc="", source="")
    with pytest.raises(FormatError, match=r"^a format must be of a family with a codec, not a Words \(words\)$"):
        quantize([1.0], fmt)
    monkeypatch.setattr(registry, "plugins", lambda group: {"words": (Words, WordsCodec())} if group == "codecs" else {})
    monkeypatch.setattr(registry, "CODECS", dict(registry.CODECS))
    assert dequantize(quantize([1.5, 2.5], fmt)).tolist() == [1.5, 2.5]


def test_part_of_a_tensor_with_the_largest_of_the_whole():
    array = normal(8, 64)
    whole = quantize(array, "nvfp4")
    parts = [quantize(array[rows], "nvfp4", amax=float(array.max())) for rows in (slice(0, 3), slice(3, 8))]
    assert np.array_equal(np.concatenate([part.payload for part in parts]), whole.payload)
    with pytest.raises(FormatError, match=r"^amax must be a number of at least the largest magnitude, .*, not 0.5$"):
        quantize(np.ones((1, 16)), "razer", amax=0.5)
    with pytest.raises(FormatError, match=r"^amax must be a number of at least the largest magnitude, 1, not nan$"):
        quantize(np.ones((1, 16)), "nvfp4", amax=float("nan"))


def test_a_tensor_of_wrong_parts():
    good = quantize(normal(2, 32), "bitmod4-g16")
    parts = {"format": good.format, "shape": good.shape, "axis": 1}
    with pytest.raises(FormatError, match=r"^payload of bitmod4-g16 of shape \(2, 32\) along axis 1 must be \(2, 20\) uint8, "
                                          r"not \(2, 19\) uint8$"):
        QuantizedTensor(**parts, payload=good.payload[:, 1:], side=good.side)
    with pytest.raises(FormatError, match=r"^side arrays of bitmod4-g16 must be outer_scale, not none$"):
        QuantizedTensor(**parts, payload=good.payload, side={})
    wrong = QuantizedTensor(**parts, payload=good.payload, side={"outer_scale": np.ones(3, np.float32)})
    with pytest.raises(FormatError, match=r"^outer_scale of bitmod4-g16 must be \(2,\) float32, not \(3,\) float32$"):
        dequantize(wrong)
    rows = quantize(normal(2, 32), "int8")
    with pytest.raises(FormatError, match=r"^outer_scale of int8 must be \(2,\) float32, not \(2,\) float64$"):
        dequantize(dataclasses.replace(rows, side={"outer_scale": np.ones(2)}))


def test_bits_count_everything_stored():
    tensor = quantize(normal(4, 256), "bitmod4-g128")
    assert tensor.nbytes == 4 * 2 * 66 + 4 * 4
    assert tensor.bits_per_weight == 8 * tensor.nbytes / 1024
    assert quantize(normal(4, 100), "bitmod4-g128").bits_per_weight == 8 * (4 * 66 + 16) / 400


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if "row_scale" in fmt.side])
def test_scales_of_rows_must_be_one_a_row(name):
    tensor = quantize(normal(2, 64), name)
    for scale in (np.ones(1, np.float32), np.ones(2), np.ones((1, 2), np.float32)):
        damaged = dataclasses.replace(tensor, side={"row_scale": scale})
        with pytest.raises(FormatError, match=rf"^row_scale must be \(2,\) float32, not {re.escape(str(scale.shape))} "
                                              rf"{scale.dtype}$"):
            dequantize(damaged)


def test_what_formats_share_is_no_format():
    with pytest.raises(TypeError, match=r"^Can't instantiate abstract class Format .* abstract method '?word'?$"):
        Format(family="x", doc="", source="")
    with pytest.raises(TypeError, match=r"^Can't instantiate abstract class Element .* abstract methods '?bits'?, '?value'?$"):
        Element()
