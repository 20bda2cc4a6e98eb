"""Values as codes of a PIM's operands, codes as bytes, and what codes stand for by the definition."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from hw.formats import format_named
from hw.pim.config import WEIGHT_TYPES, format_has_sides
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.operands import SIDE_SPECIAL, operand_named
from sw.golden.pim.p3_unit import x_integers
from sw.pim.codes import codes_of, encoded, packed, unpacked
from sw.pim.scaled_operands import unit_of


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_codes_to_bytes_and_back(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 10)).astype(np.uint16 if bits == 16 else np.uint8)
    data = packed(codes, bits)
    assert data.shape == (3, 10 * bits // 8)
    np.testing.assert_array_equal(unpacked(data, bits), codes)
    assert int.from_bytes(data[0].tobytes(), "little") == sum(int(code) << i * bits for i, code in enumerate(codes[0]))


@pytest.mark.parametrize("name", [*WEIGHT_TYPES, "float8_s0e4m4"])
def test_levels_are_those_of_the_element(name):
    operand, fmt = operand_named(name), format_named(name)
    codes = np.arange(min(1 << operand.bits, 1 << 12))
    expected = np.array([fmt.element.value(int(code)) for code in codes], np.float32)
    if len(fmt.specials) > 1:
        for number, special in enumerate(fmt.specials):
            levels = np.where(codes == fmt.special_code, np.float32(special), expected)
            np.testing.assert_array_equal(operand.values(codes, number << SIDE_SPECIAL), levels)
    elif fmt.zero_point_bits:
        np.testing.assert_array_equal(operand.values(codes, 5), expected - 5)
    else:
        np.testing.assert_array_equal(operand.values(codes), expected)
    assert operand.has_sides == format_has_sides(name)


@pytest.mark.parametrize("name", ["int8", "int4-asym", "p3-kv", "mxint4", "bitmod4", "float8_e4m3fn", "float8_s0e4m4"])
def test_integers_are_levels_in_their_unit(name):
    operand = operand_named(name)
    codes = np.arange(1 << operand.bits)
    values = operand.values(codes, 3).astype(np.float64)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(operand.integers(codes, 3)[numbers], values[numbers] * 2.0**-operand.lsb)
    config = PIM_PRESETS["pim-p3"]
    assert unit_of(config, "int8", name) == operand.lsb
    assert unit_of(dataclasses.replace(config, acc="float32", n_acc_slots=8), "int8", name) == 0


def test_a_nan_counts_as_what_its_bits_would_be():
    np.testing.assert_array_equal(operand_named("float8_e4m3fn").integers(np.array([0x7F, 0xFF])),
                                  x_integers(1, np.array([0x7F, 0xFF], np.uint8)))


def test_values_are_rounded_as_their_formats_say():
    values = np.array([0.4, 1.5, 2.5, -300, 300], np.float32)
    np.testing.assert_array_equal(encoded(values, "int8").view(np.int8), [0, 2, 2, -128, 127])
    np.testing.assert_array_equal(encoded(values, "bfloat16").view(ml_dtypes.bfloat16), values.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(encoded(np.array([[1.0, 0.0]], np.float32), "float8_s0e4m4"), [[0xF0, 0]])


def test_what_the_host_sends():
    config, values = PIM_PRESETS["pim-p3"], np.ones((1, 2, 3), np.float32)
    assert (codes_of(config, "x", values) == 0x38).all()
    assert (codes_of(config, "p", values) == 0xF0).all()
    for kind, given in (("x", values.astype(np.uint8)), ("entries", values), ("scales", values)):
        assert codes_of(config, kind, given) is given
