"""Golden model of `hw.array.bitmod_tile`: products with group scales, summed in float32."""

import numpy as np
import numpy.typing as npt

from hw.elements import FP32, Element, FloatFormat
from sw.golden.arith.floating import encode, float_add
from sw.golden.pe.bitmod import GUARD, PRECISIONS, group_sums

__all__ = ["product"]

Ints = npt.NDArray[np.int64]


def product(element: Element, activations: Ints, codes: Ints, scales: Ints, specials: npt.NDArray[np.float64], *,
            precision: str, group: int) -> npt.NDArray[np.uint64]:
    """Return Σ over groups of scale · Σ activation · weight as float32 words.

    Each group is rounded as a PE rounds, then to float32; groups are added in order, in float32, to nearest, ties to even.
    Numbers below the smallest normal one count as zero.

    Parameters
    ----------
    element : Element
        Of the activations.
    activations : (m, k) int64
        Words.
    codes : (n, k) int64
        Weights as stored.
    scales, specials : (n, ⌈k / group⌉)
        Unsigned 8-bit scales, and special values.
    precision : str
    group : int
        Weights of a group; the last one may have fewer, and steps of four that k does not fill have zeros.

    Returns
    -------
    (m, n) uint64
    """
    m, n, k = len(activations), len(codes), codes.shape[1]
    sums = np.zeros(m * n, np.uint64)
    lsb = -element.bias - element.mantissa_bits - GUARD if isinstance(element, FloatFormat) else 0
    lsb -= PRECISIONS[precision].is_float
    for index, start in enumerate(range(0, k, group)):
        end = min(start + group, k)
        padding = ((0, 0), (0, (start - end) % 4))
        left = np.repeat(np.pad(activations[:, start:end], padding), n, axis=0)
        right = np.tile(np.pad(codes[:, start:end], padding), (m, 1))
        mantissa, exponent = group_sums(element, left, precision, right, np.tile(specials[:, index], m))
        scaled = (mantissa * np.tile(scales[:, index], m)).astype(np.float64)
        words = encode(FP32, np.ldexp(scaled, exponent + lsb))
        sums = float_add(FP32, sums, words) if start else words
    return sums.reshape(m, n)
