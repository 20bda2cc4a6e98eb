"""Passes of a KV cache in int8, or in uint4 with a zero point: appending, and unpacking.

int8: x ≈ q · s, s = amax / 127. uint4: x ≈ (u − z) · s with s = (max − min) / 15 and z = round(−min / s), where max and min are
not below and not above 0, as in the format int4-asym (`hw.formats`). Scales, and zero points as floats, lie beside the cache, one
float32 for each token.
"""

from hw.isa import VectorFunction
from sw.kernels.passes.command import Floats, Int8, Operand, Pass, Row, Scalars, Uint4, vector_pass
from sw.kernels.passes.quantization import LEAST_SCALE, inverse_scale, quantize, token_scale

__all__ = ["negated_zero_points", "quantize_int8", "quantize_uint4", "unpack_uint4", "zero_points"]

UINT4_MAX = 15.0
ROUNDER = 1.5 * 2.0**23
"""Added and subtracted again, it rounds what is below 2²² to the nearest integer, ties to even."""


def quantize_int8(m: Operand, n: Operand, x: Floats, to: Int8, scales: Scalars, *, amax: Operand, inverse: Operand,
                  sooner: bool = False) -> list[Pass]:
    """Rows with their largest magnitudes → int8 rows and their scales; `sooner` as of `inverse_scale`."""
    return [*token_scale(m, amax, scales), *inverse_scale(m, amax, inverse, sooner=sooner),
            *quantize(m, n, x, to, inverse=inverse)]


def quantize_uint4(m: Operand, n: Operand, x: Floats, to: Uint4, scales: Scalars, zeros: Scalars, *, low: Operand, high: Operand,
                   zero: Operand) -> list[Pass]:
    """Rows → uint4 rows, their scales and zero points; `low`, `high` and `zero` are row scalars in between.

    `low` holds −min, then −min / s; `high` max, then max − min, then 1/s.
    """
    return [
        vector_pass("maximum", a=x, m=m, n=n, maximum=0.0, max_to=high),
        vector_pass("minimum", a=x, m=m, n=n, scale=-1.0, maximum=0.0, max_to=low),
        vector_pass("range", a=Row(high), m=m, add=Row(low), sum_to=high),
        *token_scale(m, high, scales, largest=UINT4_MAX),
        vector_pass("inverse scale", a=Row(high), m=m, scale=1 / UINT4_MAX, maximum=LEAST_SCALE,
                    function=VectorFunction.RECIPROCAL, sum_to=high),
        vector_pass("zero point", a=Row(low), m=m, times=Row(high), max_to=zero),
        vector_pass("zero point rounded", a=Row(zero), m=m, add=ROUNDER, sum_to=zero),
        vector_pass("zero point", a=Row(zero), m=m, add=-ROUNDER, sum_to=zero, to=zeros),
        vector_pass("quantize", a=x, m=m, n=n, row=high, add=Row(zero), to=to),
    ]


def zero_points(m: Operand, zeros: Scalars, to: Operand) -> list[Pass]:
    """Zero points of m tokens → row scalars."""
    return [vector_pass("zero points", a=zeros, m=m, sum_to=to)]


def unpack_uint4(m: Operand, n: Operand, x: Uint4, to: Int8, *, zeros: Operand) -> list[Pass]:
    """u − z of m tokens → int8, exact: values as the matrix engine multiplies them."""
    return [vector_pass("unpack", a=x, m=m, n=n, add=Row(zeros, negate=True), to=to)]


def negated_zero_points(heads: Operand, n: Operand, zeros: Floats, to: Int8) -> list[Pass]:
    """−z of n tokens of each head, side by side → int8: weights of a step, the same in all of k (stride 0).

    Keys are multiplied as they are packed; a second, accumulating command multiplies the queries by these, so that
    Σ q · u + Σ q · (−z) = Σ q · (u − z), exact in integers.
    """
    return [vector_pass("negated zero points", a=zeros, m=heads, n=n, scale=-1.0, to=to)]
