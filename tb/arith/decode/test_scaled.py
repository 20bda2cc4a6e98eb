# amaranth: UnusedElaboratable=no
"""Decoders of scaled formats: significands, exponents and scales of every code, exact; lanes, zero points, special values."""

import copy
import dataclasses

import numpy as np
import pytest

from flows.block_sim import BlockSim, pack_lanes, unpack_lanes
from hw.arith.decode import DECODERS
from hw.arith.decode.scaled import ScaledDecoder
from hw.elements import ELEMENTS, FP32
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import FORMATS
from tb.arith.decode.bank import Bank
from tb.arith.decode.scaled_cases import CASES, codes_of, golden

LANES = 3


def forced(fmt, **changes):
    """Return `fmt` with fields that it would refuse: the decoder has a look of its own."""
    changed = copy.copy(fmt)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def values_of(element, codes):
    """Return what codes stand for, in float64."""
    if element is FP32:
        with np.errstate(invalid="ignore"):                 # signalling NaN
            return codes.astype(np.uint32).view(np.float32).astype(np.float64)
    return np.array(element.values)[codes]


def wanted(fmt, codes):
    """Return element − zero point and scale of each vector, in float64."""
    value = values_of(fmt.element, codes["codes"])
    if fmt.specials:
        special = np.array(fmt.specials)[codes.get("special", np.zeros_like(codes["codes"]))]
        value = np.where(codes["codes"] == fmt.special_code, special, value)
    if fmt.zero_point_bits:
        value = value - codes["zero_point"]
    return value, values_of(fmt.scale, codes["scale"]) if fmt.scale is not None else np.ones(len(value))


def check(outputs, form, value, prefix=""):
    """Compare significand, exponent and flags with float64 values."""
    exponent = outputs[f"{prefix}exponent"].astype(np.int64) if f"{prefix}exponent" in outputs else 0
    got = np.ldexp(outputs[f"{prefix}significand"].astype(np.float64), exponent + form.lsb)
    finite = np.isfinite(value)
    np.testing.assert_array_equal(got[finite], value[finite])
    for flag, there, where in (("nan", form.has_nan, np.isnan(value)), ("inf", form.has_inf, np.isinf(value))):
        assert (prefix + flag in outputs) == there
        assert there or not where.any()
        if there:
            np.testing.assert_array_equal(outputs[prefix + flag], where)
    np.testing.assert_array_equal(outputs[f"{prefix}negative"][~np.isnan(value)], np.signbit(value[~np.isnan(value)]))


def lane_of(outputs, decoder, lane):
    """Return what the decoder says of one lane, like the outputs of an `ElementDecoder`."""
    widths = {"significand": decoder.significand_width, "exponent": decoder.exponent_width, "negative": 1, "nan": 1, "inf": 1}
    return {name: unpack_lanes(outputs[name], width, LANES, signed=name == "significand")[:, lane]
            for name, width in widths.items() if name in outputs}


@pytest.fixture(scope="module")
def results():
    """Name → decoder, codes of each vector and lane 0, outputs. Lane i decodes the code of i vectors before."""
    decoders = {name: ScaledDecoder(fmt, LANES) for name, fmt in CASES.items()}
    codes = {name: codes_of(fmt, limit=1 << 14) for name, fmt in CASES.items()}
    vectors = {}
    for name, fmt in CASES.items():
        lanes = np.stack([np.roll(codes[name]["codes"], lane) for lane in range(LANES)], axis=1)
        vectors[name] = {**codes[name], "codes": pack_lanes(lanes, fmt.element.bits)}
    outputs = Bank(decoders, "scaled_decoders").run(vectors)
    return {name: (decoders[name], codes[name], outputs[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_every_code(results, name):
    fmt = CASES[name]
    decoder, codes, outputs = results[name]
    for lane in range(LANES):
        value, scale = wanted(fmt, {**codes, "codes": np.roll(codes["codes"], lane)})
        check(lane_of(outputs, decoder, lane), decoder.element, value)
    if fmt.scale is not None:
        check(outputs, decoder.scale_element, scale, prefix="scale_")
        assert decoder.scale_lsb == decoder.scale_element.lsb
    else:
        assert not any(port.startswith("scale_") for port in outputs)


@pytest.mark.parametrize("name", [name for name, fmt in CASES.items() if fmt.element.bits < 32])
def test_the_codec_agrees_with_the_tables(name):
    """(element − zero point) · scale, rounded once to float32, is what the codec makes of the fields."""
    codes = codes_of(CASES[name], limit=1 << 12)
    value, scale = wanted(CASES[name], codes)
    with np.errstate(invalid="ignore", over="ignore"):
        np.testing.assert_array_equal(golden(CASES[name], codes), (value * scale).astype(np.float32))


def test_special_values_from_a_port():
    """Four special values that no format lists, and every code, with each."""
    fmt = FORMATS["bitmod4-g128"]
    decoder = ScaledDecoder(fmt, 1, programmable=True)
    levels = np.array([7.0, -3.5, 0.5, -16.0])
    code, special = (axis.ravel() for axis in np.meshgrid(np.arange(16), np.arange(4)))
    values = int(pack_lanes((levels * 2).astype(np.int64)[None], decoder.significand_width)[0])
    outputs = BlockSim(decoder, "programmable_decoder").run(
        {"codes": code, "special": special, "special_values": values, "scale": 1})
    value, _ = wanted(dataclasses.replace(fmt, specials=tuple(levels)), {"codes": code, "special": special, "scale": code * 0})
    significand = unpack_lanes(outputs["significand"], decoder.significand_width, 1, signed=True)[:, 0]
    np.testing.assert_array_equal(np.ldexp(significand.astype(np.float64), decoder.lsb), value)


def test_a_signed_element_with_a_zero_point():
    fmt = forced(FORMATS["int4-asym-g128"], element=ELEMENTS["int4"], zero_point_bits=5)
    decoder = ScaledDecoder(fmt)
    code, zero = (axis.ravel() for axis in np.meshgrid(np.arange(16), np.arange(32)))
    outputs = BlockSim(decoder, "signed_zero_point").run({"codes": code, "zero_point": zero, "scale": 0})
    significand = unpack_lanes(outputs["significand"], decoder.significand_width, 1, signed=True)[:, 0]
    np.testing.assert_array_equal(significand, values_of(fmt.element, code) - zero)
    assert decoder.significand_width == 7                   # −8 − 31 to 7


def test_widths():
    assert ScaledDecoder(FORMATS["p3-kv-g128"]).significand_width == 5      # −15 to 15
    bitmod = ScaledDecoder(FORMATS["bitmod4-g128"])
    assert (bitmod.significand_width, bitmod.lsb, bitmod.scale_significand_width, bitmod.scale_lsb) == (6, -1, 9, 0)


def test_the_registry_knows_it():
    assert DECODERS[ScaledFormat] is ScaledDecoder


@pytest.mark.parametrize(("fmt", "lanes", "text"), [
    (FORMATS["nvfp4"], 0, r"^ScaledDecoder\.lanes must be at least 1, not 0$"),
    (forced(FORMATS["nvfp4"], zero_point_bits=4), 1,
     r"^ScaledDecoder\.fmt must have no zero point with float4_e2m1fn or special values, not 4 bits$"),
    (forced(FORMATS["p3-kv-g128"], specials=(1.0,)), 1,
     r"^ScaledDecoder\.fmt must have no zero point with uint4 or special values, not 4 bits$"),
])
def test_what_is_refused(fmt, lanes, text):
    with pytest.raises(ConfigError, match=text):
        ScaledDecoder(fmt, lanes)
