"""Passes between integers and floats: requantization, dequantization, dynamic quantization of tokens."""

from hw.isa import VectorFunction
from sw.kernels.passes.command import (
    Accumulator,
    Floats,
    Int8,
    Number,
    Operand,
    Pass,
    Row,
    Scalars,
    vector_pass,
)

__all__ = ["LEAST_SCALE", "dequantize", "inverse_scale", "quantize", "requantize", "token_scale"]

LEAST_SCALE = 2.0**-100
"""Of a token: where its largest magnitude is below 127 times that, it becomes zeros, whatever they were."""
INT8_MAX = 127.0


def requantize(m: Operand, n: Operand, acc: Accumulator, to: Int8, *, scale: Floats | Number, bias: Floats | None = None,
               relu: bool = False) -> list[Pass]:
    """int8(acc + bias) · scale: static scales, of each column or one for all; the pass of a vector unit that only requantizes."""
    return [vector_pass("requantize", a=acc, m=m, n=n, bias=bias, scale=scale, maximum=0.0 if relu else None, to=to)]


def dequantize(m: Operand, n: Operand, acc: Accumulator, to: Floats | None, *, columns: Floats | Number,
               tokens: Operand | None = None, add: Floats | None = None, sum_to: Operand | None = None,
               squares_to: Operand | None = None, max_to: Operand | None = None, amax_to: Operand | None = None,
               seed: Operand | None = None, limit: Number | None = None) -> list[Pass]:
    """acc · column scale · token scale + add → float32: `add` is a bias (stride 0) or a residual, which may lie where `to` does.

    `limit` is the largest magnitude before that.

    The statistics of the result, for the norm or the quantization that follows, come in the same pass.
    """
    return [vector_pass("dequantize", a=acc, m=m, n=n, scale=columns, row=tokens, limit=limit, add=add, sum_to=sum_to,
                        squares_to=squares_to, max_to=max_to, amax_to=amax_to, seed=seed, to=to)]


def inverse_scale(m: Operand, amax: Operand, inverse: Operand, *, largest: float = INT8_MAX, sooner: bool = False) -> list[Pass]:
    """127 / amax of each token: what `quantize` multiplies by; finite where amax is 0, so that zeros stay zeros.

    sooner: as the maximum of a row of one element, which is there before its sum (`hw.timing`).
    """
    return [vector_pass("inverse scale", a=Row(amax), m=m, scale=1 / largest, maximum=LEAST_SCALE,
                        function=VectorFunction.RECIPROCAL, max_to=inverse if sooner else None,
                        sum_to=None if sooner else inverse)]


def token_scale(m: Operand, amax: Operand, scale: Operand | Scalars, *, largest: float = INT8_MAX) -> list[Pass]:
    """amax / 127 of each token: what its integers stand for; to a row scalar, or to the scratchpad (scales of a cache).

    Where the scale only multiplies column scales that the host makes, this pass is saved: they take the 1/127, and amax is the
    token's scale.
    """
    if isinstance(scale, Scalars):
        return [vector_pass("token scale", a=Row(amax), m=m, scale=1 / largest, to=scale)]
    return [vector_pass("token scale", a=Row(amax), m=m, scale=1 / largest, sum_to=scale)]


def quantize(m: Operand, n: Operand, x: Floats, to: Int8, *, inverse: Operand, columns: Floats | Number = 1.0) -> list[Pass]:
    """x · column factor · inverse scale → int8; the column factor is the γ of a norm, whose own factor has cancelled."""
    return [vector_pass("quantize", a=x, m=m, n=n, scale=columns, row=inverse, to=to)]
