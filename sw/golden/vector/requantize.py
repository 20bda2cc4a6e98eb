"""Requantization to int8, the definition: numpy's own float32 arithmetic, rounded to nearest, ties to even, at every step."""

import numpy as np
import numpy.typing as npt

__all__ = ["requantize"]

INT32 = np.iinfo(np.int32)


def requantize(acc: npt.ArrayLike, *, scale: npt.ArrayLike, bias: npt.ArrayLike = 0, relu: bool = False) -> npt.NDArray[np.int8]:
    """Return saturate_int8(rne(float32(sat32(acc + bias)) · scale)), with `relu` not below zero; a NaN becomes 0.

    Parameters
    ----------
    acc : (m, n) int32
    scale : () or (n,) float32
    bias : () or (n,) int32
    relu : bool

    Returns
    -------
    (m, n) int8
    """
    total = np.clip(np.asarray(acc, dtype=np.int64) + np.asarray(bias, dtype=np.int64), INT32.min, INT32.max).astype(np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        product = total.astype(np.float32) * np.asarray(scale, dtype=np.float32)
    rounded = np.rint(np.where(np.isnan(product), np.float32(0), product))
    return np.clip(rounded, 0 if relu else -128, 127).astype(np.int8)
