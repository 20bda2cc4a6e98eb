"""Block scales: from the largest magnitude of a block to what is stored, and back to the factor of its values.

A block of zeros has scale 1 where the scale is a float, the least code of a power-of-two scale, code 0 of a second level; where
`ScaledFormat.scale_limits` sets a lower limit, that. Of other blocks the stored scale is at least the least positive one of its
type, so that a block of tiny values is coded by that one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat, Integer
from hw.families import ScaledFormat
from sw.formats.codec import FormatError
from sw.formats.scaled_rounding import Floats, levels, rounding

__all__ = ["Scales", "decode_scales", "largest_level", "positive", "power_of_two", "second_level", "store_scales", "tensor_scale"]

Scales = npt.NDArray[Any]

LEAST = np.float32(2.0**-149)
"""The smallest positive float32: the scale where largest magnitude / largest level underflows."""
SECOND_LEVEL = 127
"""Largest code of a second-level INT8 scale."""
_BIAS = 127


def largest_level(fmt: ScaledFormat) -> float:
    """Return the level that the largest magnitude is scaled to where no other is tried."""
    if isinstance(fmt.element, Integer):
        return fmt.element.value(fmt.element.maximum)
    largest = fmt.element.limits[1]
    return max(largest, *map(abs, fmt.specials)) if fmt.specials and fmt.special_widens and not fmt.special_bits else largest


def positive(scales: Floats, used: npt.NDArray[np.bool_]) -> Floats:
    """Return scales with 1 where nothing uses them and never 0."""
    return np.where(used, np.maximum(scales, LEAST), np.float32(1))


def tensor_scale(fmt: ScaledFormat, amax: float) -> np.float32:
    """Return the outer scale of a tensor: amax / (largest level · largest block scale)."""
    assert fmt.scale_limits is not None
    ratio = np.array([amax], np.float32) / np.float32(fmt.element.limits[1] * fmt.scale_limits[1])
    return np.float32(positive(ratio, np.array([amax > 0]))[0])


def power_of_two(fmt: ScaledFormat, amax: Floats) -> tuple[Scales, Floats]:
    """Return stored E8M0 codes and factors of blocks of largest magnitude `amax`; exact integer arithmetic on exponents."""
    fraction, exponent = np.frexp(amax)                 # amax = fraction · 2^exponent, fraction in [0.5, 1)
    level_fraction, level_exponent = np.frexp(largest_level(fmt))
    shared = exponent - level_exponent
    if fmt.scale_rule == "ceil":
        shared += fraction > level_fraction
    codes = np.where(amax > 0, np.clip(shared + _BIAS, 0, 2 * _BIAS), 0).astype(np.uint8)
    return codes, np.ldexp(np.float32(1), codes.astype(np.int32) - _BIAS)


def store_scales(fmt: ScaledFormat, scales: Floats, first: int, blocks: int) -> tuple[Scales, Floats]:
    """Return stored codes and factors of `scales`, those of blocks `first` and on of a matrix of `blocks` in a row.

    Raises
    ------
    FormatError
        If one is too large for the scale's type.
    """
    element = fmt.scale
    assert isinstance(element, FloatFormat)
    codes = rounding(element)(scales)
    factors = _values(element, codes)
    if not np.isfinite(factors).all():
        at = int(np.flatnonzero(~np.isfinite(factors))[0])
        row, group = divmod(first + at, blocks)
        wider = {"float16": "bf16", "bfloat16": "fp32"}.get(element.name) if np.isfinite(scales[at]) else None
        hint = f"; {wider} scales hold it (option -{wider})" if wider else ""
        raise FormatError(f"the scale of row {row}, group {group} must fit {element.name}, not be {scales[at]:.6g}{hint}")
    if not factors.all():                               # underflow of a block that is not zero: the least positive code, 1
        codes = np.where(factors == 0, codes.dtype.type(1), codes)
        factors = _values(element, codes)
    return codes, factors


def second_level(scales: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return INT8 codes (rows, blocks) of block scales, and the scale of each row, (rows,)."""
    peak = scales.max(axis=1)
    outer = positive(peak / np.float32(SECOND_LEVEL), peak > 0)
    return np.clip(np.rint(scales / outer[:, None]), 0, SECOND_LEVEL).astype(np.uint8), outer


def decode_scales(fmt: ScaledFormat, codes: Scales) -> npt.NDArray[Any]:
    """Return the values of stored block scales."""
    assert fmt.scale is not None
    return _values(fmt.scale, codes)


def _values(element: Any, codes: Scales) -> Floats:
    """Return values of codes, float32."""
    if element.name == "float32":
        return codes.view(np.float32)
    return levels(element)[codes]
