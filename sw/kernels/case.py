"""A GEMM with its data: what a workload is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import Element, FloatFormat, Integer
from sw.kernels.spec import GemmSpec
from sw.numpy_types import numpy_type

__all__ = ["GemmCase", "random_case"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmCase:
    """One GEMM and its operands.

    Attributes
    ----------
    name : str
    spec : GemmSpec
    a, b : ndarray
        (batch, M, K) and (batch, K, N) int8, without the batch where it is 1; whatever storage form `spec` asks for. With
        `spec.weights` B is float32, and the scales are those of its real values. A, and B where plain weights are, of float16
        or bfloat16 as the config says.
    scale : float32, or (N,) float32 ndarray with `spec.per_channel`
    bias : (N,) int32 ndarray, float32 with floating-point activations, or None without `spec.bias`
    """

    name: str
    spec: GemmSpec
    a: npt.NDArray[Any]
    b: npt.NDArray[Any]
    scale: Any
    bias: npt.NDArray[Any] | None = None


def random_case(name: str, spec: GemmSpec, weight: Element, seed: int, activation: Element | None = None) -> GemmCase:
    """Return a GEMM on random data whose outputs use the whole range of int8, with a few that saturate.

    activation: of A, if that is not int8; of a float everything is normally distributed.
    """
    rng = np.random.default_rng(seed)
    lead = () if spec.batch == 1 else (spec.batch,)
    if isinstance(activation, FloatFormat):
        return _float_case(name, spec, weight, activation, rng, lead)
    assert isinstance(weight, Integer)
    a = rng.integers(-128, 128, (*lead, spec.m, spec.k)).astype(np.int8)
    if spec.weights:
        b: npt.NDArray[Any] = rng.standard_normal((spec.k, spec.n)).astype(np.float32)
        deviation = 74.0 * spec.k ** 0.5                                    # of a sum: uniform activations
    else:
        b = rng.integers(weight.minimum, weight.maximum + 1, (*lead, spec.k, spec.n)).astype(np.int8)
        deviation = 74.0 * weight.maximum / 3 ** 0.5 * spec.k ** 0.5        # both uniform
    scale: Any = np.float32(50.0 / deviation)
    if spec.per_channel:
        scale = (scale * rng.uniform(0.5, 1.5, spec.n)).astype(np.float32)
    bias = rng.integers(-int(deviation), int(deviation) + 1, spec.n).astype(np.int32) if spec.bias else None
    return GemmCase(name=name, spec=spec, a=a, b=b, scale=scale, bias=bias)


def _float_case(name: str, spec: GemmSpec, weight: Element, activation: FloatFormat, rng: np.random.Generator,
                lead: tuple[int, ...]) -> GemmCase:
    """Return a GEMM with floating-point activations; outputs have a deviation of about 50, as those of integers have."""
    a = rng.standard_normal((*lead, spec.m, spec.k)).astype(numpy_type(activation))
    deviation = spec.k ** 0.5
    if spec.weights or isinstance(weight, FloatFormat):
        kind = np.float32 if spec.weights else numpy_type(weight)
        b: npt.NDArray[Any] = rng.standard_normal((*lead, spec.k, spec.n)).astype(kind)
    else:
        assert isinstance(weight, Integer)
        b = rng.integers(weight.minimum, weight.maximum + 1, (*lead, spec.k, spec.n)).astype(np.int8)
        deviation *= weight.maximum / 3 ** 0.5
    scale: Any = np.float32(50.0 / deviation)
    if spec.per_channel:
        scale = (scale * rng.uniform(0.5, 1.5, spec.n)).astype(np.float32)
    bias = rng.normal(0, 50, spec.n).astype(np.float32) if spec.bias else None
    return GemmCase(name=name, spec=spec, a=a, b=b, scale=scale, bias=bias)
