"""P3-LLM's processing unit, the definition: integer dot products of 4-bit weights and 8-bit floats, saturating."""

import numpy as np
import numpy.typing as npt

__all__ = ["LSB", "NAN", "p3_unit", "x_integers"]

Codes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

LSB = (-12, -11, -19)
"""Weight of bit 0 of an accumulator as a power of two: LINEAR, QK, PV."""
NAN = 0x7F
"""E4M3 code, its sign aside, that is no number; it counts as 480."""

_HALVES = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.int64)                 # magnitudes of FP4 in half units
_SPECIALS = np.array([10, -10, 16, -16], np.int64)                      # what the code of −0 stands for, in half units
_LIMIT = 1 << 31


def x_integers(mode: int, codes: Codes) -> Integers:
    """Return elements of x as integers: E4M3 in units of 2^−11, or in mode 2 S0E4M4 in units of 2^−19; any shape → int64."""
    wide = codes.astype(np.int64)
    if mode == 2:
        exponent, fraction = wide >> 4, wide & 15
        return np.where(exponent, 16 + fraction << exponent, fraction << 1)
    exponent, fraction = wide >> 3 & 15, wide & 7
    magnitude = np.where(exponent, 2 * (8 + fraction) << exponent, 2 * fraction << 1)
    return np.where(wide >> 7, -magnitude, magnitude)


def _weight_integers(mode: int, codes: Codes, zero_point: Codes, special: Codes) -> Integers:
    """Return weights, (n, 16, 4), as integers: half units of FP4, or what is above the zero point."""
    wide = codes.astype(np.int64)
    if mode == 0:
        magnitude = _HALVES[wide & 7]
        plain = np.where(wide >> 3, -magnitude, magnitude)
        return np.where(wide == 8, _SPECIALS[special][..., :, None], plain)
    return wide - (zero_point[..., None, :4] if mode == 2 else zero_point[..., :, None]).astype(np.int64)


def p3_unit(mode: int, columns: Codes, x: Codes, *, zero_point: Codes, special: Codes) -> tuple[npt.NDArray[np.int32], bool]:
    """Return the accumulators after n columns, and whether one was clipped.

    Parameters
    ----------
    mode : int
        0 LINEAR, 1 QK, 2 PV.
    columns : ndarray, (n, 16, 4) uint8
        Weights of each PE and lane.
    x : ndarray, (n, v, 4) uint8
        What the lanes are multiplied with, for each of v vectors.
    zero_point, special : ndarray, (n, 16) uint8
        By PE; zero points of mode 2 by lane, the first 4.

    Returns
    -------
    ndarray, (v, 16) int32; bool
    """
    weights = _weight_integers(mode, columns, zero_point, special)
    sums = np.einsum("npl,nvl->nvp", weights, x_integers(mode, x))
    total, clipped = np.zeros(sums.shape[1:], np.int64), False
    for step in sums:
        exact = total + step
        total = np.clip(exact, -_LIMIT, _LIMIT - 1)
        clipped = clipped or bool((total != exact).any())
    return total.astype(np.int32), clipped
