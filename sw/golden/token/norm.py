"""Golden model of `hw.token.rms_reciprocal`: what is left of an RMS norm once its weights are folded into the next matrix."""

import numpy as np
import numpy.typing as npt

from hw.elements import FP32
from sw.golden.arith.floating import float_fma, int_to_float
from sw.golden.arith.functions import rsqrt

__all__ = ["rms_reciprocal"]


def rms_reciprocal(x: npt.NDArray[np.int64], factor: np.float32, epsilon: np.float32) -> tuple[npt.NDArray[np.float32],
                                                                                           npt.NDArray[np.int64]]:
    """Return 1 / √(Σ x² · factor + epsilon) of integers (tokens, elements), (tokens,) float32, and the largest magnitudes."""
    total = int_to_float(FP32, np.square(x.astype(np.int64)).sum(axis=-1))
    constants = (np.full(total.shape, np.array(value, np.float32).view(np.uint32)) for value in (factor, epsilon))
    words = rsqrt(FP32, float_fma(FP32, total, *constants))
    return words.astype(np.uint32).view(np.float32), np.abs(x).max(axis=-1)
