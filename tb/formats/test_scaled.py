"""The codec of scaled formats against quantizers in plain Python, block by block."""

import dataclasses
import math
import re

import numpy as np
import pytest

from hw.elements import ELEMENTS, FP16, Codebook, FloatFormat, Specials
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import FORMATS, format_named
from sw.formats import FormatError, dequantize, quantize
from sw.formats.scaled_rounding import rounding
from tb.formats import code_tables
from tb.formats.scaled_reference import chosen, f32, integer_block, nearest, reference, stored, tensor_outer, usable

GROUPED = ["int2-g8", "int3-g16", "int4-g32", "int4-g32-bf16", "int4-g32-fp32", "int4-g32-full", "int4-g32-away", "int4-g32-down",
           "int5-g32", "int6-g7", "int7-g32", "int8-g64", "int16-g32", "int2-asym-g16", "int3-asym-g16", "int4-asym-g128",
           "int4-asym-g32-bf16", "int4-asym-g32-fp32", "int4-asym-g16-away", "int5-asym-g16", "int6-asym-g16", "int7-asym-g16",
           "int8-asym-g16", "int16-asym-g16", "p3-kv-g128", "p3-kv-g16-bf16",
           "mxfp8-e4m3-b32", "mxfp8-e5m2-b32", "mxfp6-e3m2-b32", "mxfp6-e2m3-b32", "mxfp4-b32", "mxint8-b32", "mxint4-b32",
           "mxfp8-e4m3-b16-ceil", "mxfp8-e5m2-b16-ceil", "mxfp6-e3m2-b16-ceil", "mxfp6-e2m3-b8-ceil", "mxfp4-b16-ceil",
           "mxint8-b16-ceil", "mxint4-b16-ceil", "mxint4-b32-full", "mxint4-b32-ceil-full", "mxint8-b32-full", "mxfp4-b32-away",
           "mxfp4-b32-down", "mxint4-b32-away",
           "nf4-g128", "nf4-g16-bf16", "nf4-g16-fp32", "sf4-g128", "fp4-g128", "fp4-g16-fp32", "fp3-g128", "fp4-sr-g128",
           "fp4-sp-g128", "fp4-sp-g16-bf16", "nvfp4", "nvfp4-4over6", "razer", "razer-sv7", "razer-act"]
TWO_LEVELS = ["int4-g16-int8", "int3-g8-int8", "int4-asym-g16-int8", "fp4-g16-int8", "nf4-g16-int8",
              "bitmod4-g128", "bitmod3-g128", "bitmod4-g8", "bitmod3-g16"]


def parts(fmt: ScaledFormat) -> tuple[str, int, tuple[str, ...]]:
    return fmt.family, fmt.block, fmt.options


def samples(block: int, seed: int = 1) -> np.ndarray:
    """Return rows of three blocks: ordinary ones, ties, zeros, subnormals, large ones, and ones of a single sign."""
    rng = np.random.default_rng(seed)
    columns = 3 * block
    ties = rng.integers(-48, 49, columns) / 8.0
    ties[::block] = rng.choice([6.0, 8.0, 7.0, -6.0, -8.0, 4.0, 1.0, 15.0, -7.5, 12.0], 3)
    fine = rng.integers(-8, 9, columns) / 2.0
    fine[::block] = 7.0
    zeros = np.zeros(columns)
    zeros[block], zeros[block + 1] = -3.0, -0.0
    rows = [rng.normal(size=columns), rng.standard_t(2, columns) * 0.02, ties, fine, zeros, rng.normal(size=columns) * 1e-40,
            rng.normal(size=columns) * 1e4, abs(rng.normal(size=columns)), -abs(rng.normal(size=columns)),
            2.0 ** rng.integers(-12, 3, columns) * rng.choice([-1, 1], columns), rng.normal(size=columns) * 1e-6]
    return np.array(rows, np.float32)


@pytest.mark.parametrize("name", GROUPED + TWO_LEVELS)
def test_blocks_are_as_in_plain_python(name):
    """Codes, scales and choices are those of the reference; where two attempts err alike to 1e-6, either may be kept."""
    fmt = format_named(name)
    matrix = samples(fmt.block)
    for part in [matrix] if fmt.outer != "tensor" else [matrix, *(row[None] for row in matrix)]:
        compare(fmt, part)


def compare(fmt, matrix):
    tensor = quantize(matrix, fmt)
    fields = tensor.encoded.fields
    codes, scale = fields["codes"], fields["scale"][:, :, 0]
    scale = np.array(fmt.scale.values)[scale] if fmt.scale.bits <= 16 else scale.view(np.float32)
    wanted = reference(*parts(fmt), matrix.tolist())
    for row, blocks in enumerate(wanted):
        for at, attempts in enumerate(blocks):
            kept = kept_attempt(fmt, fields, row, at, attempts)
            attempt = attempts[kept]
            assert attempt.error <= attempts[chosen(attempts)].error * (1 + 1e-6), (row, at)
            assert not any(other.values == attempt.values for other in attempts[:kept]), (row, at)
            assert codes[row, at].tolist() == attempt.codes, (row, at)
            if fmt.outer != "row":
                assert scale[row, at] == attempt.scale, (row, at)
            if fmt.zero_point_bits or fmt.special_bits:
                assert fields["zero_point" if fmt.zero_point_bits else "special"][row, at, 0] == attempt.extra
    if fmt.outer == "row":
        for row, blocks in enumerate(wanted):
            scales = [attempts[kept_attempt(fmt, fields, row, at, attempts)].scale for at, attempts in enumerate(blocks)]
            if fmt.scale_limits is None:                # a block of zeros asks for no scale
                scales = [scale * bool(block.any()) for scale, block in zip(scales, matrix[row].reshape(3, -1), strict=True)]
            outer = max(f32(max(scales) / 127), 2.0**-149) if any(scales) else 1.0
            assert tensor.side["outer_scale"][row] == outer
            assert fields["scale"][row, :, 0].tolist() == [min(round(f32(scale / outer)), 127) for scale in scales]
    if fmt.outer == "tensor":
        assert tensor.side["outer_scale"] == tensor_outer(matrix.tolist(), 28 if fmt.family in ("razer", "razer-sv7") else 448)


def kept_attempt(fmt, fields, row, at, attempts) -> int:
    """Return which attempt the codec kept, by its special value or, with 4over6, by its codes."""
    if len(attempts) == 1:
        return 0
    if fmt.special_bits:
        return [attempt.extra for attempt in attempts].index(fields["special"][row, at, 0])
    return [attempt.codes for attempt in attempts].index(fields["codes"][row, at].tolist())


@pytest.mark.parametrize("name", GROUPED + TWO_LEVELS)
def test_values_are_exact_products_rounded_once(name):
    fmt = format_named(name)
    tensor = quantize(samples(fmt.block, 2), name)
    fields, values = tensor.encoded.fields, dequantize(tensor)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    for row in range(len(values)):
        outer = float(tensor.side["outer_scale"][row if fmt.outer == "row" else 0]) if fmt.outer != "none" else 1.0
        for at in range(3):
            code = int(fields["scale"][row, at, 0])
            scale = fmt.scale.value(code)
            special = fmt.specials[fields["special"][row, at, 0]] if fmt.special_bits else (fmt.specials or (0,))[0]
            zero = int(fields["zero_point"][row, at, 0]) if fmt.zero_point_bits else 0
            for i, q in enumerate(fields["codes"][row, at].tolist()):
                level = special if fmt.specials and q == fmt.special_code else np.float32(fmt.element.value(q))
                assert values[row, at * fmt.block + i] == f32((float(level) - zero) * scale * outer)


@pytest.mark.parametrize("name", ["int2", "int3", "int4", "int5", "int6", "int7", "int8", "int16", "p3-act"])
def test_rows_with_one_scale(name):
    """Symmetric integers and P3-LLM's activations: a float32 scale a row."""
    matrix = samples(16, 3)
    tensor = quantize(matrix, name)
    codes, values = tensor.encoded.fields["codes"][:, :, 0], dequantize(tensor)
    for row, w in enumerate(matrix.tolist()):
        if name == "p3-act":
            table = usable(code_tables.E4M3)
            scale = stored(f32(max(map(abs, w)) / 448), any(w), f32)
            wanted = [nearest(f32(value / scale), table, "even") for value in w]
            level = [table[q] for q in wanted]
        else:
            attempt = integer_block(w, int(name[3:]), f32)[0]
            wanted, scale = attempt.codes, attempt.scale
            level = [value / scale for value in attempt.values]
        assert tensor.side["outer_scale"][row] == np.float32(scale)
        assert codes[row].tolist() == wanted
        assert values[row].tolist() == [f32(value * scale) for value in level]


def test_every_scaled_format_is_covered():
    covered = {format_named(name).family for name in GROUPED + TWO_LEVELS} | {f"int{bits}" for bits in (2, 3, 4, 5, 6, 7, 8, 16)}
    plain = {name for name, fmt in FORMATS.items() if isinstance(fmt, ScaledFormat) and fmt.scale_rule == "none"}
    assert {fmt.family for fmt in FORMATS.values() if isinstance(fmt, ScaledFormat)} <= covered | plain | {"p3-act"}
    assert math.isnan(format_named("mxfp4-b32").scale.value(255))


@pytest.mark.parametrize("ties", ["even", "away", "down"])
@pytest.mark.parametrize("levels", [2, 16, 64, 256, "nf4", "sf4"])
def test_any_codebook(levels, ties):
    """Levels in any order, midpoints that need every bit of a float32: nearest by plain comparison of distances."""
    rng = np.random.default_rng(1)
    if isinstance(levels, str):
        element = ELEMENTS[levels]
    else:
        element = Codebook(name="any", levels=tuple(np.float32(rng.normal(size=levels)).tolist()), doc="")
    values, ladder = element.levels, np.sort(np.float64(element.levels))
    middles = np.float32((ladder[1:] + ladder[:-1]) / 2)
    edges = [np.nextafter(middles, np.float32(edge)) for edge in (np.inf, -np.inf)]
    x = np.concatenate([middles, *edges, np.float32(values), rng.normal(size=200).astype(np.float32)]).astype(np.float32)
    table = dict(enumerate(values))
    assert rounding(element, ties)(x).tolist() == [nearest(float(v), table, ties) for v in x]


@pytest.mark.parametrize(("exponent_bits", "mantissa_bits", "specials"), [
    (4, 2, Specials.IEEE), (5, 9, Specials.IEEE), (3, 4, Specials.NAN), (5, 7, Specials.NONE), (2, 0, Specials.NONE)])
def test_any_float(exponent_bits, mantissa_bits, specials):
    """Casts to floats of any size: nearest even, with infinities, NaN and −0 where the format has them."""
    element = FloatFormat(name="any", exponent_bits=exponent_bits, mantissa_bits=mantissa_bits, specials=specials)
    fmt = ScaledFormat(family="any", element=element, scale_rule="none", doc="", source="")
    rng = np.random.default_rng(0)
    finite = np.array(sorted({v for v in element.values if math.isfinite(v)}))
    middles = np.float32((finite[1:] + finite[:-1]) / 2)[::max(1, len(finite) // 64)]
    x = np.concatenate([middles, np.nextafter(middles, np.float32(9e9)), np.nextafter(middles, -np.float32(9e9)),
                        rng.normal(size=100) * finite[-1] / 2, [1e30, -1e30, 0.0]]).astype(np.float32)
    table = usable(list(element.values))
    if specials is Specials.IEEE:                       # to nearest as if the next power of two were there, and that is infinity
        step = finite[-1] - finite[-2]
        table |= {element.values.index(sign * math.inf): sign * (finite[-1] + step) for sign in (1, -1)}
    wanted = [element.value(nearest(min(max(float(v), -2 * finite[-1]), 2 * finite[-1]), table, "even")) for v in x]
    assert dequantize(quantize(x[None], fmt))[0].tolist() == wanted
    assert quantize([[-0.0, 0.0]], fmt).encoded.fields["codes"].ravel().tolist() == [1 << (element.bits - 1), 0]
    if specials is not Specials.NONE:
        assert np.isnan(dequantize(quantize([[np.nan]], fmt))).all()


@pytest.mark.parametrize(("name", "change", "text"), [
    ("int4", {"scale_rule": "mean"}, "scale_rule must be one of none, absmax, floor, ceil, range, not 'mean'"),
    ("int4", {"outer": "block"}, "outer must be one of none, row, tensor, not 'block'"),
    ("int4", {"ties": "up"}, "ties must be one of even, away, down, not 'up'"),
    ("float16", {"element": ELEMENTS["int8"]}, "element must be a float where nothing scales it, not 'int8'"),
    ("float16", {"scale": FP16}, "scale must be None where scale_rule is 'none', not 'float16'"),
    ("mxfp4-b32", {"scale": None}, "scale must be given where scale_rule is 'floor', not None"),
    ("mxfp4-b32", {"scale": FP16},
     "scale must be float8_e8m0fnu where scale_rule is 'floor' or 'ceil', and nowhere else, not 'float16'"),
    ("bitmod4-g128", {"scale": FP16}, "scale must be uint8 or None where outer is 'row', else a float or None, not 'float16'"),
    ("nf4-g128", {"scale": ELEMENTS["uint8"]},
     "scale must be uint8 or None where outer is 'row', else a float or None, not 'uint8'"),
    ("nvfp4", {"scale_limits": None}, "scale_limits must be given where outer is 'tensor', not None"),
    ("int4", {"outer": "none"},
     "outer must be 'row' where that is the only scale, and 'none' with powers of two or without scales, not 'none'"),
    ("mxfp4-b32", {"outer": "tensor", "scale_limits": (0, 1)},
     "outer must be 'row' where that is the only scale, and 'none' with powers of two or without scales, not 'tensor'"),
    ("nf4-g128", {"block": 0}, "block must be positive with a block scale, and 0 without, not 0"),
    ("bitmod3-g128", {"special_code": 8}, "special_code must be a code of float3_e2m0, not 8"),
    ("razer", {"special_order": (0, 1)}, "special_order must be empty or the indices of 4 special values, not (0, 1)"),
])
def test_formats_that_cannot_be(name, change, text):
    with pytest.raises(ConfigError, match=f"^ScaledFormat.{re.escape(text)}$"):
        dataclasses.replace(format_named(name), **change)


@pytest.mark.parametrize(("name", "change", "text"), [
    ("p3-kv-g128", {"zero_point_bits": 3}, "the zero point of p3-kv-g128 must have 4 bits with rule 'range', not 3"),
    ("nvfp4", {"zero_point_bits": 4}, "the zero point of nvfp4 must have 0 bits with rule 'absmax', not 4"),
    ("int4-asym-g128", {"element": ELEMENTS["int4"]},
     "the element of int4-asym-g128 must be an unsigned integer under a zero point, not int4"),
    ("int4-g32", {"specials": (1.0,)},
     "the choices of int4-g32 must be among levels under block scales of rule 'absmax', not of int4 with rule 'absmax'"),
    ("mxfp4-b32", {"magnitudes_tried": (6.0,)},
     "the choices of mxfp4-b32 must be among levels under block scales of rule 'absmax', not of float4_e2m1fn with rule 'floor'"),
])
def test_formats_that_only_decode(name, change, text):
    """What the tables can say and a decoder can read, but nothing tells how to make."""
    with pytest.raises(FormatError, match=f"^{re.escape(text)}$"):
        quantize(np.ones((1, 128)), dataclasses.replace(format_named(name), **change))
