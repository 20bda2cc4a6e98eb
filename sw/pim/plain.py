"""Formats whose stored elements are their values, as numpy has them: what the golden machine and the kernels of a PIM take."""

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = ["PLAIN_TYPES", "stored"]

PLAIN_TYPES: dict[str, npt.DTypeLike] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
                                         "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "int8": np.int8}
"""Name of a format → numpy's type."""


def stored(values: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.uint8]:
    """Return the bytes of values in a plain format, flat uint8; rounded to nearest even."""
    return np.ascontiguousarray(values.astype(PLAIN_TYPES[name])).reshape(-1).view(np.uint8)
