"""Number formats in numpy: quantize, dequantize, save, load.

>>> import numpy as np
>>> from sw.formats import dequantize, quantize
>>> q = quantize(np.linspace(-1, 1, 256, dtype=np.float32).reshape(2, 128), "bitmod4-g128")
>>> q.shape, q.payload.shape, q.bits_per_weight
((2, 128), (2, 66), 4.375)
>>> bool(abs(dequantize(q) - np.linspace(-1, 1, 256).reshape(2, 128)).max() < 0.1)
True
"""

from sw.formats.codec import FormatError
from sw.formats.files import load, save
from sw.formats.tensor import QuantizedTensor, dequantize, quantize

__all__ = ["FormatError", "QuantizedTensor", "dequantize", "load", "quantize", "save"]
