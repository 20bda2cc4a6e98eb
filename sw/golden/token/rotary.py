"""Golden model of `hw.token.rotary`: rotations of a position, by recurrence, and pairs turned by them."""

import numpy as np
import numpy.typing as npt

__all__ = ["advanced", "exact_rotation", "turned"]

Ints = npt.NDArray[np.int64]


def exact_rotation(angles: npt.NDArray[np.float64], width: int) -> tuple[Ints, Ints]:
    """Return cosines and sines as integers of `width` bits, width − 2 of them behind the point."""
    scale = float(1 << (width - 2))
    return np.rint(np.cos(angles) * scale).astype(np.int64), np.rint(np.sin(angles) * scale).astype(np.int64)


def turned(a: Ints, b: Ints, rotation: tuple[Ints, Ints], width: int) -> tuple[Ints, Ints]:
    """Return (a + ib) · (cos + i sin), rounded to nearest, halves up."""
    cos, sin = rotation
    half, shift = 1 << (width - 3), width - 2
    return (a * cos - b * sin + half) >> shift, (a * sin + b * cos + half) >> shift


def advanced(rotation: tuple[Ints, Ints], step: tuple[Ints, Ints], width: int) -> tuple[Ints, Ints]:
    """Return the rotation of the next position."""
    return turned(*step, rotation, width)
