# amaranth: UnusedElaboratable=no
"""Decoders of elements: every code of every element and every special value, in Verilator."""

import math
import random

import numpy as np
import pytest

from flows.block_sim import pack_lanes
from hw.arith.decode.element import ElementDecoder
from hw.elements import ELEMENTS, FP16, FP32, Codebook, FloatFormat, Integer, Specials
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import FORMATS
from tb.arith.decode.bank import Bank
from tb.arith.words import corners, random_words

E2M1, E3M2, E4M3 = (ELEMENTS[name] for name in ("float4_e2m1fn", "float6_e3m2fn", "float8_e4m3fn"))
NO_ZERO = FloatFormat(name="e2m2nz", exponent_bits=2, mantissa_bits=2, specials=Specials.NONE, subnormals=False)
ONE_BIT = FloatFormat(name="e1m2", exponent_bits=1, mantissa_bits=2)
PROGRAMMED = (-7.0, 2.5, 0.0, -8.0)


def every_case():
    """Return name → (element, arguments of the decoder): all elements, all special values of the formats, and each parameter."""
    cases = {name: (element, {}) for name, element in ELEMENTS.items()}
    for fmt in FORMATS.values():
        if isinstance(fmt, ScaledFormat) and fmt.specials:
            cases[fmt.name] = (fmt.element, {"specials": fmt.specials, "special_code": fmt.special_code})
    return cases | {
        "e4m3 as P3 aligns it": (E4M3, {"fraction_bits": 4}),
        "e4m3 fixed": (E4M3, {"fixed": True}),
        "e5m2 fixed, aligned": (ELEMENTS["float8_e5m2"], {"fixed": True, "fraction_bits": 3}),
        "e3m2 fixed, special": (E3M2, {"fixed": True, "specials": (0.03125,), "special_code": 32}),
        "e2m1 with exponent": (E2M1, {"fixed": False}),
        "no zero, with exponent": (NO_ZERO, {"fixed": False}),
        "no zero": (NO_ZERO, {}),
        "one bit of exponent": (ONE_BIT, {}),
        "e2m1, finer special": (E2M1, {"specials": (2.25, 3.5, -0.25), "special_code": 0}),
        "int4, special": (ELEMENTS["int4"], {"specials": (-8.0, 8.0), "special_code": 8}),
        "nf4, special": (ELEMENTS["nf4"], {"specials": (1.5,), "special_code": 7}),
        "programmable": (E2M1, {"specials": (5.0, -5.0, 8.0, -8.0), "special_code": 8, "programmable": True}),
        "one programmable": (ELEMENTS["float3_e2m0"], {"specials": (6.0,), "special_code": 4, "programmable": True}),
    }


CASES = every_case()


def inputs_of(element, specials=(), programmable=False, **_):
    """Return the vectors of a decoder, and which special value each uses."""
    codes = np.arange(1 << element.bits) if element.bits <= 16 else np.array(
        [*corners(element), *random_words(element, 50_000, random.Random(1))])
    special = np.repeat(np.arange(max(1, len(specials))), len(codes))
    vectors = {"code": np.tile(codes, max(1, len(specials)))}
    if len(specials) > 1:
        vectors["special"] = special
    return vectors, special


@pytest.fixture(scope="module")
def results():
    """Name → decoder, vectors, special value of each, outputs."""
    decoders = {name: ElementDecoder(element, **arguments) for name, (element, arguments) in CASES.items()}
    vectors, specials = {}, {}
    for name, (element, arguments) in CASES.items():
        vectors[name], specials[name] = inputs_of(element, **arguments)
        if arguments.get("programmable"):
            count = len(arguments["specials"])
            levels = [[int(value * 2**-decoders[name].lsb) for value in PROGRAMMED[:count]]]
            vectors[name]["special_values"] = int(pack_lanes(np.array(levels), decoders[name].significand_width)[0])
    outputs = Bank(decoders, "elements").run(vectors)
    return {name: (decoders[name], vectors[name]["code"], specials[name], outputs[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_every_code(results, name):
    decoder, codes, chosen, got = results[name]
    element, arguments = CASES[name]
    specials = arguments.get("specials", ())
    if arguments.get("programmable"):
        specials = PROGRAMMED[:len(specials)]
    if element is FP32:
        with np.errstate(invalid="ignore"):                 # signalling NaN
            want = codes.astype(np.uint32).view(np.float32).astype(np.float64)
    else:
        want = np.array(element.values)[codes]
    if specials:
        want = np.where(codes == arguments["special_code"], np.array(specials)[chosen], want)
    exponent = got["exponent"].astype(np.int64) if decoder.exponent_width else 0
    value = np.ldexp(got["significand"].astype(np.float64), exponent + decoder.lsb)
    finite = np.isfinite(want)
    assert finite.any()
    np.testing.assert_array_equal(value[finite], want[finite])
    for flag, there, where in (("nan", decoder.form.has_nan, np.isnan(want)), ("inf", decoder.form.has_inf, np.isinf(want))):
        assert (flag in got) == there
        assert there or not where.any()
        if there:
            np.testing.assert_array_equal(got[flag], where)
    np.testing.assert_array_equal(got["negative"][~np.isnan(want)], np.signbit(want[~np.isnan(want)]))
    assert got["significand"].min() >= -(1 << decoder.significand_width - 1)


@pytest.mark.parametrize(("element", "arguments", "widths"), [
    ("int4", {}, (4, 0, 0)), ("uint4", {}, (5, 0, 0)), ("mxint8", {}, (8, 0, -6)),
    ("float3_e2m0", {}, (4, 0, 0)), ("float3_e2m0", {"specials": (3.0, -3.0, 6.0, -6.0), "special_code": 4}, (4, 0, 0)),
    ("float4_e2m1fn", {}, (5, 0, -1)), ("float4_e2m1fn", {"specials": (5.0, -5.0, 8.0, -8.0), "special_code": 8}, (6, 0, -1)),
    ("float6_e2m3fn", {}, (7, 0, -3)), ("float6_e3m2fn", {}, (4, 3, -5)),
    ("float8_e4m3fn", {}, (5, 4, -10)), ("float8_e4m3fn", {"fraction_bits": 4}, (6, 4, -11)),
    ("float8_s0e4m4", {}, (6, 4, -19)), ("float8_e8m0fnu", {}, (2, 8, -127)), ("float16", {}, (12, 5, -25)),
    ("nf4", {}, (29, 0, -27)), ("sf4", {}, (28, 0, -26)), ("mxint4", {}, (4, 0, -2)),
])
def test_widths(element, arguments, widths):
    decoder = ElementDecoder(ELEMENTS[element], **arguments)
    assert (decoder.significand_width, decoder.exponent_width, decoder.lsb) == widths


def test_the_widest_special_value_fits():
    assert ElementDecoder(E2M1, (-16.0,), 8).significand_width == 6       # −32 half units
    assert ElementDecoder(E2M1, (16.0,), 8).significand_width == 7


@pytest.mark.parametrize(("arguments", "text"), [
    ((object(),), r"^ElementForm\.element must be an Integer, a FloatFormat or a Codebook, not <object object at .*>$"),
    ((E4M3, (5.0,)), r"^ElementForm\.specials must be empty for float8_e4m3fn, which is not fixed point, not \(5\.0,\)$"),
    ((E2M1, (math.inf,)), r"^ElementForm\.specials must be finite, not \(inf,\)$"),
    ((E2M1, (5.0,), 16), r"^ElementForm\.special_code must be a code of 4 bits, not 16$"),
])
def test_bad_arguments(arguments, text):
    with pytest.raises(ConfigError, match=text):
        ElementDecoder(*arguments)


@pytest.mark.parametrize(("element", "change", "text"), [
    (E2M1, {"programmable": True}, r"^ElementForm\.specials must not be empty where they are programmable, not \(\)$"),
    (FP16, {"fraction_bits": 9}, r"^ElementForm\.fraction_bits must be at least 10 for float16, not 9$"),
    (ELEMENTS["int4"], {"fraction_bits": 4}, r"^ElementForm\.fraction_bits must be None for int4, which is no float, not 4$"),
    (ELEMENTS["nf4"], {"fixed": False}, r"^ElementForm\.fixed must be None for nf4, which is no float, not False$"),
])
def test_parameters_that_do_not_suit_the_element(element, change, text):
    with pytest.raises(ConfigError, match=text):
        ElementDecoder(element, **change)


def test_the_registry_holds_the_kinds_that_the_decoder_knows():
    assert {type(element) for element in ELEMENTS.values()} == {Integer, FloatFormat, Codebook}
