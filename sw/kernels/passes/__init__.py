"""The operations of transformers as short sequences of vector passes; every function returns them as a list.

>>> from sw.kernels.passes import Floats, norms
>>> [p.name for p in norms.rms_norm(4, 64, Floats(0, 256), Floats(0, 256), squares=0, eps=1e-5, gamma=Floats(4096))]
['rms', 'normalize']
"""

from sw.kernels.passes.command import (
    ITSELF,
    Accumulator,
    Floats,
    Int8,
    Mask,
    Pass,
    PassError,
    Row,
    Scalars,
    Uint4,
    vector_pass,
)

__all__ = ["ITSELF", "Accumulator", "Floats", "Int8", "Mask", "Pass", "PassError", "Row", "Scalars", "Uint4", "vector_pass"]
