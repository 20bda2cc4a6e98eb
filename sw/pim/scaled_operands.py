"""Quantized matrices as a PIM takes them: codes, bytes of the side table, and scales as float32.

What an accumulator counts is 2^lsb of the two formats' levels; scales have that in them: a sum times its scale is a value.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat, Integer
from hw.families import ScaledFormat
from hw.formats import format_named
from hw.pim.config import PimConfig
from sw.formats.scaled_scales import decode_scales
from sw.formats.tensor import QuantizedTensor, quantize
from sw.pim.codes import Codes, encoded

__all__ = ["Scaled", "quantized_activations", "quantized_weights", "unit_of"]

Floats = npt.NDArray[np.float32]
SPECIAL_LOW = 6             # of a byte of the side table (`hw.pim.isa`)
_ROW_SCALED = {"float8_e4m3fn": "p3-act", "int8": "int8"}
"""Format of X → the same with a scale for each row; others are rounded as they are."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A matrix, (rows, K), in groups along K.

    Attributes
    ----------
    codes : ndarray, (rows, K) uint8 or uint16
        K in whole groups.
    sides : ndarray, (rows, groups) uint8
        Zero point, special value's number.
    scales : ndarray, (rows, groups) float32
    """

    codes: Codes
    sides: npt.NDArray[np.uint8]
    scales: Floats


def unit_of(config: PimConfig, weight: str, x: str) -> int:
    """Return the weight of an accumulator's bit 0 as a power of two; 0 of float32 accumulators."""
    return _lsb(weight) + _lsb(x) if config.acc == "int32" else 0


def _lsb(name: str) -> int:
    """Return the weight of bit 0 of a level as an integer: E4M3 as P3-LLM aligns it, S0E4M4 by its stored exponent."""
    fmt = format_named(name)
    assert isinstance(fmt, ScaledFormat)
    if isinstance(fmt.element, Integer):
        return -fmt.element.fraction_bits
    assert isinstance(fmt.element, FloatFormat)
    return {"float8_e4m3fn": -11, "float8_s0e4m4": -19, "float4_e2m1fn": -1}[fmt.element.name]


def quantized_weights(tensor: QuantizedTensor) -> Scaled:
    """Return a quantized matrix, (rows, K) with blocks along K."""
    fmt, found = tensor.format, tensor.encoded
    assert isinstance(fmt, ScaledFormat)
    codes = found.fields["codes"]
    rows = len(codes)
    groups = codes.shape[1] if fmt.block else 1
    scales = np.ones((rows, groups), np.float64)
    if fmt.block:
        scales = decode_scales(fmt, found.fields["scale"].reshape(rows, groups)).astype(np.float64)
    if "outer_scale" in found.side:
        scales = scales * found.side["outer_scale"].reshape(-1, 1)
    sides = np.zeros((rows, groups), np.uint8)
    if fmt.zero_point_bits:
        sides |= found.fields["zero_point"].reshape(rows, groups)
    if fmt.special_bits:
        sides |= found.fields["special"].reshape(rows, groups) << np.uint8(SPECIAL_LOW)
    return Scaled(codes.reshape(rows, -1), sides, scales.astype(np.float32))


def quantized_activations(x: Floats, xtype: str) -> tuple[Codes, Floats]:
    """Return codes (n, K) of rows of X in a format of activations, and a scale for each row."""
    if xtype not in _ROW_SCALED:
        return encoded(x, xtype), np.ones(len(x), np.float32)
    found = quantize(x, _ROW_SCALED[xtype]).encoded
    return found.fields["codes"].reshape(len(x), -1), found.side["outer_scale"]
