"""Passes of RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016).

An RMSNorm whose result is quantized never divides a row: the factor 1/rms is the same for all of a token, so it cancels in the
int8 codes, which only need the largest magnitude of x · γ, and is left to the token's scale.
"""

from collections.abc import Sequence

from hw.isa import VectorFunction
from sw.kernels.passes.command import Floats, Int8, Operand, Pass, Row, vector_pass
from sw.kernels.passes.quantization import INT8_MAX, inverse_scale, quantize

__all__ = [
    "add_rows", "layer_norm", "maximum_rows", "no_statistics", "rms_norm", "rms_norm_int8", "rms_norm_scales", "rms_statistics",
    "rms_token_scale",
]


def add_rows(m: Operand, parts: Sequence[Operand], to: Operand) -> list[Pass]:
    """Row scalars `parts`, sums over parts of the columns → their sum at `to`, which may be the first of them."""
    passes, first = [], parts[0]
    for part in parts[1:]:
        passes.append(vector_pass("add parts", a=Row(first), m=m, add=Row(part), sum_to=to))
        first = to
    return passes


def maximum_rows(m: Operand, parts: Sequence[Operand], to: Operand) -> list[Pass]:
    """Row scalars `parts`, maxima over parts of the columns → their maximum at `to`, which may be the first of them."""
    passes, first = [], parts[0]
    for part in parts[1:]:
        passes.append(vector_pass("maximum of parts", a=Row(first), m=m, max_to=to, seed=part))
        first = to
    return passes


def rms_statistics(m: Operand, n: Operand, x: Floats, *, squares: Operand | None, amax: Operand, gamma: Floats | None = None,
                   seed: Operand | None = None) -> list[Pass]:
    """Σ x² and max |x · γ| of each row, or of a part of its columns, whose maximum is not below `seed`.

    One pass without γ, which then is in the weights that follow; one with γ where `squares` is None, because the pass that made x
    has summed them; else two, since a sum of squares shares its multiplier with the last factor. Without γ, the pass that makes x
    gives both, and this one is saved too.
    """
    if gamma is None:
        return [vector_pass("statistics", a=x, m=m, n=n, squares_to=squares, amax_to=amax, seed=seed)]
    both = [] if squares is None else [vector_pass("squares", a=x, m=m, n=n, squares_to=squares)]
    return [*both, vector_pass("statistics", a=x, m=m, n=n, scale=gamma, amax_to=amax, seed=seed)]


def no_statistics(m: Operand, any_bytes: Int8, *, sums: Operand | None = None, amax: Operand | None = None) -> list[Pass]:
    """Zeros, for statistics that come in parts; made of any bytes of the scratchpad, since floats may be NaN."""
    return [vector_pass("zeros", a=any_bytes, m=m, n=1, scale=0.0, sum_to=sums, amax_to=amax)]


def rms_norm_int8(m: Operand, n: int, x: Floats, to: Int8, *, squares: Operand, amax: Operand, scale: Operand, inverse: Operand,
                  eps: float, gamma: Floats | None = None, columns: Operand | None = None) -> list[Pass]:
    """x / √(mean x² + eps) · γ as int8, and what the integers of each token stand for, from the statistics of the whole row.

    Parameters
    ----------
    n : int
        Columns that the statistics are of.
    squares, amax : Operand
        Row scalars: Σ x², max |x · γ|; kept.
    scale, inverse : Operand
        Row scalars to write: amax / 127 / rms, what an integer stands for; 127 / amax.
    columns : Operand
        Columns to quantize, where not all `n` at once.
    """
    return [*rms_norm_scales(m, n, squares=squares, amax=amax, scale=scale, inverse=inverse, eps=eps),
            *quantize(m, n if columns is None else columns, x, to, inverse=inverse, columns=1.0 if gamma is None else gamma)]


def rms_norm_scales(m: Operand, n: int, *, squares: Operand, amax: Operand, scale: Operand, inverse: Operand,
                    eps: float) -> list[Pass]:
    """The passes of `rms_norm_int8` but the last: what integers of a token stand for, what its elements are multiplied by."""
    return [*rms_token_scale(m, n, squares=squares, amax=amax, scale=scale, eps=eps), *inverse_scale(m, amax, inverse)]


def rms_token_scale(m: Operand, n: int, *, squares: Operand, amax: Operand, scale: Operand, eps: float) -> list[Pass]:
    """amax / 127 / rms: what the integers of a token stand for, all that needs its Σ x²."""
    square = INT8_MAX**2        # 1/√(127²·(mean + eps)) = 1/rms/127
    return [vector_pass("rms", a=Row(squares), m=m, scale=square / n, add=square * eps, function=VectorFunction.RSQRT,
                        times=Row(amax), max_to=scale)]


def rms_norm(m: Operand, n: int, x: Floats, to: Floats, *, squares: Operand, eps: float, gamma: Floats,
             amax: Operand | None = None) -> list[Pass]:
    """x / √(mean x² + eps) · γ as float32, from Σ x² of each row, whose place then holds 1/rms."""
    return [
        vector_pass("rms", a=Row(squares), m=m, scale=1 / n, add=eps, function=VectorFunction.RSQRT, sum_to=squares),
        vector_pass("normalize", a=x, m=m, n=n, scale=gamma, row=squares, amax_to=amax, to=to),
    ]


def layer_norm(m: Operand, n: int, x: Floats, to: Floats, *, total: Operand, squares: Operand, eps: float, gamma: Floats,
               beta: Floats, amax: Operand | None = None, centred: Floats | None = None) -> list[Pass]:
    """(x − mean) / √(variance + eps) · γ + β as float32, from the sum of each row.

    `total` holds Σ x and then the mean; `squares` gets Σ (x − mean)² and then 1/√(variance + eps). x − mean, made in between so
    that the variance does not suffer from cancellation, goes to `centred`, by default where the result will be; all three may be
    one place.
    """
    middle = to if centred is None else centred
    return [
        vector_pass("mean", a=Row(total), m=m, scale=1 / n, sum_to=total),
        vector_pass("centre", a=x, m=m, n=n, add=Row(total, negate=True), squares_to=squares, to=middle),
        vector_pass("deviation", a=Row(squares), m=m, scale=1 / n, add=eps, function=VectorFunction.RSQRT, sum_to=squares),
        vector_pass("normalize", a=middle, m=m, n=n, scale=gamma, row=squares, add=beta, amax_to=amax, to=to),
    ]
