"""Values as the codes of a PIM's operands, and codes as the bytes that lie in DRAM and in host words.

Scales are no part of it: an element stands for its level, and what multiplies that is applied elsewhere (`sw.pim.scaled_linear`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.pim.config import PimConfig
from sw.formats.tensor import quantize
from sw.pim.plain import PLAIN_TYPES

__all__ = ["Codes", "bursts_of", "codes_of", "encoded", "packed", "unpacked"]

Codes = npt.NDArray[Any]
"""Unsigned integers, a code each: uint8, or uint16 for elements of 16 bits."""


def encoded(values: npt.NDArray[np.float32], name: str) -> Codes:
    """Return the codes of values in a format of activations or probabilities, of the same shape.

    Floats are rounded to nearest even, as numpy has them; S0E4M4 as its codec does; int8 to nearest even and clipped.
    """
    if name not in PLAIN_TYPES:
        return quantize(values, name).encoded.fields["codes"].reshape(values.shape)
    if name == "int8":
        return np.clip(np.rint(values), -128, 127).astype(np.int8).view(np.uint8)
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(values).astype(PLAIN_TYPES[name])
    return cast.view(np.dtype(f"u{cast.itemsize}"))


def codes_of(config: PimConfig, kind: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what the host sends of a stream (`sw.pim.program.PimStream`): codes of X, where it has values, else as they are."""
    if kind not in ("x", "p") or values.dtype.kind == "u":
        return values
    return encoded(values, config.xtype if kind == "x" else config.ptype)


def bursts_of(config: PimConfig, entries: Codes) -> Codes:
    """Return the weights of entries as bursts bring them, flat: (n, G, beats, width) codes, filled up to whole bursts.

    Of a burst, each segment has the streams of its share, and of those a part of `width` weights in each beat.
    """
    n, segments, beats, width = entries.shape
    flat = entries.transpose(0, 2, 1, 3).reshape(n * beats, segments, width)
    filled = np.concatenate((flat, np.zeros((-len(flat) % config.beats, segments, width), entries.dtype)))
    return filled.reshape(-1, config.beats, segments, width).transpose(0, 2, 1, 3).reshape(-1)


def packed(codes: Codes, bits: int) -> npt.NDArray[np.uint8]:
    """Return (…, n · bits / 8) bytes of (…, n) codes of 4, 8 or 16 bits, the first lowest."""
    if bits == 4:
        return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)
    return np.ascontiguousarray(codes.astype(np.dtype(f"<u{bits // 8}"))).view(np.uint8)


def unpacked(data: npt.NDArray[np.uint8], bits: int) -> Codes:
    """Return (…, n) codes of 4, 8 or 16 bits from (…, n · bits / 8) bytes."""
    if bits == 4:
        return np.stack((data & 15, data >> 4), axis=-1).reshape(*data.shape[:-1], -1)
    return np.ascontiguousarray(data).view(np.dtype(f"<u{bits // 8}"))
