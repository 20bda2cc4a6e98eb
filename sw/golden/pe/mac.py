"""Golden model of `hw.pe.mac`: multiply-accumulate in integers."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sw.golden.pe.base import Ints, PEModel, largest

__all__ = ["MacModel"]

FLOAT32_EXACT = 1 << 24     # integers up to here are exact in float32, sums included


class MacModel(PEModel):
    """Multiply-accumulate PEs; parameters as in `PEModel`."""

    exact: ClassVar[bool] = True

    def multiply(self, activation: Ints, weight: Ints) -> Ints:
        """Return activation · weight."""
        return activation * weight

    def product(self, activations: npt.NDArray[Any], weights: npt.NDArray[Any]) -> Ints:
        """Return activations @ weights, (…, m, k) and (…, k, n); a configuration has no sum that wraps.

        In floating point, which is exact and fast.
        """
        bound = weights.shape[-2] * largest(activations) * largest(weights)
        dtype: type[np.floating] = np.float32 if bound <= FLOAT32_EXACT else np.float64
        return (activations.astype(dtype, copy=False) @ weights.astype(dtype, copy=False)).astype(np.int64)
