"""Integers for kernels: values ≈ q · scale as arrays of int8, one scale for all or one for each channel (formats int8, int4)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import ELEMENTS
from hw.formats import format_named
from sw.formats.registry import codec_of
from sw.formats.scaled_rounding import levels

__all__ = ["dequantize", "quantize", "quantize_bias", "requantize_scale"]


def quantize(values: npt.NDArray[np.floating], *, bits: int = 8, axis: int | None = None) -> tuple[npt.NDArray[np.int8], Any]:
    """Quantize to `bits` bits, symmetric about zero, to nearest even.

    Parameters
    ----------
    values : ndarray of float
    bits : int
        4 or 8; the range is ±(2^(bits−1) − 1).
    axis : int or None
        The axis of channels that each have a scale; None for one scale.

    Returns
    -------
    q : ndarray of int8
        Same shape.
    scale : float32, or (channels,) float32 ndarray
        values ≈ q · scale; 1 where all values are zero.

    Raises
    ------
    ValueError
        If bits is not 4 or 8.
    FormatError
        If a value is not finite; a ValueError.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits must be 4 or 8, not {bits!r}")
    fmt = format_named(f"int{bits}")
    turned = values[None] if axis is None else np.moveaxis(values, axis, 0)
    encoded = codec_of(fmt).quantize(fmt, np.ascontiguousarray(turned.reshape(len(turned), -1), np.float32))
    q = levels(ELEMENTS[fmt.name]).take(encoded.fields["codes"]).astype(np.int8).reshape(turned.shape)
    scale = encoded.side["outer_scale"]
    return (q[0], np.float32(scale[0])) if axis is None else (np.moveaxis(q, 0, axis), scale)


def dequantize(q: npt.NDArray[np.integer], scale: Any) -> npt.NDArray[np.float32]:
    """Return q · scale in float32; `scale` broadcasts against the last axis."""
    return q.astype(np.float32) * np.asarray(scale, np.float32)


def quantize_bias(bias: npt.NDArray[np.floating], a_scale: Any, b_scale: Any) -> npt.NDArray[np.int32]:
    """Return biases as accumulator counts, (N,) int32: bias / (a_scale · b_scale)."""
    counts = np.rint(bias.astype(np.float64) / (np.float64(a_scale) * np.asarray(b_scale, np.float64)))
    return np.clip(counts, -(1 << 31), (1 << 31) - 1).astype(np.int32)


def requantize_scale(a_scale: Any, b_scale: Any, c_scale: Any) -> Any:
    """Return what turns accumulator counts into outputs of scale `c_scale`: a_scale · b_scale / c_scale, float32."""
    ratio = np.float64(a_scale) * np.asarray(b_scale, np.float64) / np.asarray(c_scale, np.float64)
    return ratio.astype(np.float32)
