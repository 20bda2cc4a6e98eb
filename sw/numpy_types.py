"""numpy's types of the elements that arrays of numbers can have as they are."""

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.elements import BF16, FP16, FP32, Element

__all__ = ["numpy_type"]

_TYPES: dict[Element, npt.DTypeLike] = {FP32: np.float32, FP16: np.float16, BF16: ml_dtypes.bfloat16}


def numpy_type(element: Element) -> npt.DTypeLike:
    """Return the type of an array of `element`: of float32, float16 and bfloat16 their own, of integers int8."""
    return _TYPES.get(element, np.int8)
