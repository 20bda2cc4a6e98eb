"""Passes of a gated or plain MLP, of residuals, and of sentence embeddings."""

from hw.isa import VectorFunction
from sw.kernels.passes.command import ITSELF, Accumulator, Floats, Number, Operand, Pass, Row, further, vector_pass

__all__ = ["add", "add_up_rows", "gated", "gelu", "mean_rows", "multiply", "silu", "unit_length"]


def silu(m: Operand, n: Operand, acc: Accumulator, to: Floats, *, columns: Floats | Number, tokens: Operand,
         limit: Number | None = None) -> list[Pass]:
    """x · sigmoid(x) of x = acc · column scale · token scale, of magnitude `limit` at most → float32."""
    return [vector_pass("silu", a=acc, m=m, n=n, scale=columns, row=tokens, limit=limit, function=VectorFunction.SIGMOID,
                        times=ITSELF, to=to)]


def gated(m: Operand, n: Operand, acc: Accumulator, gate: Floats, to: Floats, *, columns: Floats | Number, tokens: Operand,
          amax: Operand | None = None, seed: Operand | None = None, limit: Number | None = None) -> list[Pass]:
    """acc · column scale · token scale · gate → float32, which may lie where the gate does, and max |.| of each row.

    `limit` is the largest magnitude of the factor that is not the gate.
    """
    return [vector_pass("gate", a=acc, m=m, n=n, scale=columns, row=tokens, limit=limit, times=gate, amax_to=amax, seed=seed,
                        to=to)]


def gelu(m: Operand, n: Operand, acc: Accumulator, to: Floats, *, columns: Floats | Number, tokens: Operand, bias: Floats,
         amax: Operand | None = None, seed: Operand | None = None) -> list[Pass]:
    """x · Φ(x) of x = acc · column scale · token scale + bias → float32, and max |.| of each row."""
    return [vector_pass("gelu", a=acc, m=m, n=n, scale=columns, row=tokens, add=bias, function=VectorFunction.NORMAL,
                        times=ITSELF, amax_to=amax, seed=seed, to=to)]


def add(m: Operand, n: Operand, x: Floats, y: Floats, to: Floats, *, factors: Floats | Number = 1.0,
        sum_to: Operand | None = None, squares_to: Operand | None = None, amax_to: Operand | None = None) -> list[Pass]:
    """x · factors + y → float32, which may lie where either does, with the statistics of the result."""
    return [vector_pass("add", a=x, m=m, n=n, scale=factors, add=y, sum_to=sum_to, squares_to=squares_to, amax_to=amax_to, to=to)]


def multiply(m: Operand, n: Operand, x: Floats, y: Floats, to: Floats, *, amax_to: Operand | None = None) -> list[Pass]:
    """x · y → float32, which may lie where either does."""
    return [vector_pass("multiply", a=x, m=m, n=n, scale=y, amax_to=amax_to, to=to)]


def mean_rows(m: int, n: Operand, addr: Operand, stride: int) -> list[Pass]:
    """The mean of m float32 rows → the first of them; the others are used up."""
    x = Floats(addr, stride)
    return [*add_up_rows(m, n, addr, stride), vector_pass("mean", a=x, m=1, n=n, scale=1 / m, to=x)]


def add_up_rows(m: int, n: Operand, addr: Operand, stride: int) -> list[Pass]:
    """The sum of m float32 rows → the first of them; the others are used up.

    The upper half is added to the lower one until one row is left: ⌈log₂ m⌉ passes over m rows together.
    """
    x = Floats(addr, stride)
    passes, left = [], m
    while left > 1:
        half = (left + 1) // 2
        passes.append(vector_pass("add rows", a=x, m=left - half, n=n, add=Floats(further(x.addr, half * stride), stride), to=x))
        left = half
    return passes


def unit_length(m: Operand, n: Operand, x: Floats, to: Floats, *, squares: Operand, least: float = 1e-12) -> list[Pass]:
    """x / max(|x|, least) of each row → float32; `squares` holds row scalars in between."""
    return [
        vector_pass("squares", a=x, m=m, n=n, squares_to=squares),
        vector_pass("length", a=Row(squares), m=m, maximum=least**2, function=VectorFunction.RSQRT, sum_to=squares),
        vector_pass("normalize", a=x, m=m, n=n, row=squares, to=to),
    ]
