"""Widths of a PE, and what it refuses."""

import pytest

from hw.elements import BF16, ELEMENTS, FP16
from hw.errors import ConfigError
from hw.pe.bitmod.shape import BitmodShape


def test_widths_of_the_paper():
    """6-bit exponents, lanes of 14 bits, an adder tree of 17."""
    shape = BitmodShape()
    assert (shape.exponent_width, shape.lane_width, shape.sum_width) == (6, 14, 17)


@pytest.mark.parametrize(("fields", "width"), [
    ({}, 29), ({"precisions": ("int6",)}, 27), ({"precisions": ("fp4", "fp3")}, 24), ({"precisions": ("fp4",), "group": 32}, 22),
    ({"activation": BF16, "precisions": ("fp4",)}, 21), ({"activation": ELEMENTS["int8"]}, 23),
    ({"activation": ELEMENTS["int8"], "precisions": ("fp3",)}, 20),
])
def test_accumulator(fields, width):
    assert BitmodShape(**fields).acc_width == width


@pytest.mark.parametrize(("activation", "lsb"), [(FP16, -28), (BF16, -137), (ELEMENTS["int8"], 0)])
def test_last_place(activation, lsb):
    assert BitmodShape(activation=activation).lsb == lsb


@pytest.mark.parametrize(("fields", "text"), [
    ({"activation": ELEMENTS["float8_e4m3fn"]},
     r"activation must be a float of IEEE 754 with up to 8 exponent bits, or a signed integer, not 'float8_e4m3fn'"),
    ({"activation": ELEMENTS["uint8"]}, r"activation must be a float .* integer, not 'uint8'"),
    ({"activation": ELEMENTS["nf4"]}, r"activation must be a float .* integer, not 'nf4'"),
    ({"precisions": ()}, r"precisions must be a non-empty choice of int8, int6, int5, int4, int3, fp4, fp3, not \(\)"),
    ({"precisions": ("fp4", "int7")}, r"precisions must be a non-empty choice of int8, .*, not \('fp4', 'int7'\)"),
    ({"group": 12}, r"group must be a multiple of 4 between 16 \(whose scale takes as long as the next group\) and 4096, not 12"),
    ({"group": 30}, r"group must be a multiple of 4 between 16 .* and 4096, not 30"),
    ({"group": 8192}, r"group must be a multiple of 4 between 16 .* and 4096, not 8192"),
])
def test_refusals(fields, text):
    with pytest.raises(ConfigError, match=rf"^BitmodShape\.{text}$"):
        BitmodShape(**fields)
