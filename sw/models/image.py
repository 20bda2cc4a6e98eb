"""Matrices of models as the accelerator's memory holds them: packed, with a scale for each output, and heads padded."""

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.engines import pack_weights
from sw.kernels.transformer.linear_shape import Linear
from sw.kernels.transformer.shape import DecoderShape

__all__ = ["pad_heads", "place_floats", "place_linear"]

Floats = npt.NDArray[np.float32]


def pad_heads(shape: DecoderShape, matrix: Floats, parts: int = 2) -> Floats:
    """Return (heads · E, D) with each part of each head padded: halves, where positions turn one against the other."""
    pieces = matrix.reshape(-1, shape.true_head_dim // parts, matrix.shape[1])
    padded = np.zeros((len(pieces), shape.head_dim // parts, matrix.shape[1]), np.float32)
    padded[:, :pieces.shape[1]] = pieces
    return padded.reshape(-1, matrix.shape[1])


def place_linear(config: AcceleratorConfig, linear: Linear, name: str, matrix: Floats, dram: npt.NDArray[np.uint8], at: int,
                 bias: Floats | None = None, factors: Floats | None = None) -> None:
    """Round a matrix (outputs, inputs) to the linear's format and write it to `at`, then scales, bias and residual's factors.

    Raises
    ------
    ValueError
        If a weight is not finite; the text has `name`.
    """
    if not np.isfinite(matrix).all():
        raise ValueError(f"weights must be finite, but {name} holds NaN or infinity")
    packed, scale = pack_weights(config, linear.layout, matrix)
    dram[at:at + packed.size] = packed
    place_floats(f"{name}, scale", scale, dram, at + linear.scales_offset)
    for number, (what, values) in enumerate((("bias", bias), ("residual", factors)), 1):
        if values is not None:
            place_floats(f"{name}, {what}", values, dram, at + linear.scales_offset + number * linear.parameter_bytes)


def place_floats(name: str, values: Floats, dram: npt.NDArray[np.uint8], at: int) -> None:
    """Write a row of float32 to `at`.

    Raises
    ------
    ValueError
        If one is not finite; the text has `name`.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"weights must be finite, but {name} holds NaN or infinity")
    dram[at:at + 4 * values.size] = np.ascontiguousarray(values, np.float32).view(np.uint8).ravel()
