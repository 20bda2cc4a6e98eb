"""Passes of attention with online softmax (Milakov and Gimelshein, 2018; Dao et al., FlashAttention, 2022).

Scores q·k lie in the accumulator, m rows (queries) of n columns (a tile of keys), and never leave it: two passes over them find
the largest score of each row and make int8 probabilities, and the matrix engine multiplies those by the values.

    t  = acc · key scale · query scale         with log2(e)/√E in the query's scale, so that probabilities are powers of two
    r  = max(max t, floor)                     the reference of this tile and row
    p  = 2^(t − r)                             Σ p: the tile's part of the denominator; p · value scale → int8
    α  = 2^(r before − r)                      L ← L · α + Σ p, O ← O · α + P·V

Unlike the published recurrence, the reference is not the largest score so far but that of the tile, with a floor 30 below the
largest so far: probabilities are quantized relative to the largest of their tile, so that a tile of many small ones keeps them
beside an earlier one of some large (an attention sink), and L and O may grow by 2³⁰ over what they were, no more.
"""

from dataclasses import dataclass

from hw.isa import VectorFunction
from sw.kernels.passes.command import Accumulator, Floats, Int8, Mask, Number, Operand, Pass, Row, Scalars, vector_pass
from sw.kernels.passes.quantization import INT8_MAX, LEAST_SCALE

__all__ = ["FLOOR", "SoftmaxRows", "accumulate", "context", "denominator", "probabilities", "reference", "update", "value_scales"]

FLOOR = 30.0
"""How far, in powers of two, a tile's reference may lie below the largest score so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftmaxRows:
    """Row scalars of online softmax; those of one tile only (`largest`, `partial`, `alpha`) may serve several heads in turn.

    Attributes
    ----------
    largest : Operand
        The reference of this tile.
    partial : Operand
        Σ p of this tile.
    alpha : Operand
        What L and O are multiplied by.
    before : Operand
        The reference before − FLOOR; from tile to tile.
    floor : Operand
        The largest reference so far − FLOOR; from tile to tile.
    """

    largest: Operand
    partial: Operand
    alpha: Operand
    before: Operand
    floor: Operand


def reference(m: Operand, n: Operand, acc: Accumulator, rows: SoftmaxRows, *, keys: Floats | Number, queries: Operand,
              mask: Mask | None, first: bool) -> list[Pass]:
    """The largest score of each row of a tile, not below the floor; the first tile has none.

    keys: scale of each column; queries: row scalars, scale of each row · log2(e)/√E.
    """
    return [vector_pass("largest score", a=acc, m=m, n=n, scale=keys, row=queries, mask=mask, max_to=rows.largest,
                        seed=None if first else rows.floor)]


def probabilities(m: Operand, n: Operand, acc: Accumulator, to: Int8 | Floats, rows: SoftmaxRows, *, keys: Floats | Number,
                  queries: Operand, mask: Mask | None, values: Floats | Number = INT8_MAX,
                  amax: Operand | None = None) -> list[Pass]:
    """p · value scale, and Σ p of each row.

    values: what each column is multiplied by before it is rounded. To int8 at once: its value scale · 127 / the largest of them
    (`value_scales`), 127 where all values have one scale. To float32, to be quantized by its `amax` afterwards: its value scale.
    As int8, masked columns are 0 whatever their scales are, memory that nobody wrote included; as float32 these must be finite.
    """
    return [vector_pass("probabilities", a=acc, m=m, n=n, scale=keys, row=queries, add=Row(rows.largest, negate=True), mask=mask,
                        function=VectorFunction.EXP2, times=values, sum_to=rows.partial, amax_to=amax, to=to)]


def update(m: Operand, rows: SoftmaxRows, *, first: bool) -> list[Pass]:
    """α, and floor and reference for the next tile; after the first tile, where α is not needed, only these.

    2^(before − r) · 2^FLOOR, since `before` is lower than the reference before by FLOOR: the pass that makes the floor makes it.
    """
    alpha = [] if first else [vector_pass("alpha", a=Row(rows.before), m=m, add=Row(rows.largest, negate=True),
                                          function=VectorFunction.EXP2, times=2.0**FLOOR, max_to=rows.alpha)]
    return [*alpha, vector_pass("floor", a=Row(rows.largest), m=m, add=-FLOOR, sum_to=rows.before, max_to=rows.floor,
                                seed=None if first else rows.floor)]


def denominator(m: Operand, total: Scalars, rows: SoftmaxRows, *, first: bool) -> list[Pass]:
    """L ← L · α + Σ p, which lies in the scratchpad: three operands are more than row scalars alone allow."""
    if first:
        return [vector_pass("denominator", a=Row(rows.partial), m=m, to=total)]
    return [vector_pass("denominator", a=total, m=m, row=rows.alpha, add=Row(rows.partial), to=total)]


def accumulate(m: Operand, n: Operand, acc: Accumulator, to: Floats, rows: SoftmaxRows, *, values: Floats | Number,
               largest: Operand | None = None, first: bool) -> list[Pass]:
    """O ← O · α + acc · what an integer stands for, over the E columns of a head.

    values: the tile's largest value scale / 127, in each column (`value_scales`) or for all; 1/127 with `largest`, the row
    scalars by which `quantize` divided the probabilities.
    """
    if first:
        return [vector_pass("context", a=acc, m=m, n=n, scale=values, row=largest, to=to)]
    return [vector_pass("rescale", a=to, m=m, n=n, row=rows.alpha, to=to),
            vector_pass("context", a=acc, m=m, n=n, scale=values, row=largest, add=to, to=to)]


def context(m: Operand, n: Operand, o: Floats | Accumulator, to: Floats, *, total: Scalars | Row, inverse: Operand,
            values: Floats | Number = 1.0, largest: Operand | None = None, amax: Operand | None = None,
            seed: Operand | None = None, sooner: bool = False) -> list[Pass]:
    """O / L → float32, which may lie where O does, and max |.| of each row, not below `seed` (that of the heads before).

    Where one tile holds all keys, o is the accumulator and total the row scalars Σ p; values and largest are as for `accumulate`,
    and that is not needed, nor `update`, nor `denominator`. `inverse` gets 1/L, times `largest`; `sooner` as of `inverse_scale`.
    """
    maximum = sooner or largest is not None
    scale = vector_pass("1 / denominator", a=total, m=m, function=VectorFunction.RECIPROCAL,
                        times=None if largest is None else Row(largest), max_to=inverse if maximum else None,
                        sum_to=None if maximum else inverse)
    return [scale, vector_pass("attention", a=o, m=m, n=n, scale=values, row=inverse, amax_to=amax, seed=seed, to=to)]


def value_scales(heads: Operand, n: Operand, head_dim: Operand, scales: Floats, to: Floats, ones: Floats, unit: Floats, *,
                 mask: Mask | None, largest: Operand, inverse: Operand) -> list[Pass]:
    """Prepare the value scales of a tile: each · 127 / the largest of its head, and that / 127 in every column of a row.

    Parameters
    ----------
    heads : Operand
        Key and value heads: rows.
    scales : Floats
        Scale of each token's values, a row of the tile's n for each head.
    to : Floats
        For `probabilities`.
    ones : Floats
        A row of `head_dim` ones.
    unit : Floats
        For `accumulate` and `context`: rows of `head_dim` equal numbers, one for each head.
    mask : Mask
        Tokens that exist, where the tile is not full.
    largest, inverse : Operand
        Row scalars to write.
    """
    return [
        vector_pass("largest value scale", a=scales, m=heads, n=n, scale=1 / INT8_MAX, mask=mask, max_to=largest),
        vector_pass("inverse value scale", a=Row(largest), m=heads, maximum=LEAST_SCALE, function=VectorFunction.RECIPROCAL,
                    sum_to=inverse),
        vector_pass("value scales", a=scales, m=heads, n=n, row=inverse, to=to),
        vector_pass("unit", a=ones, m=heads, n=head_dim, row=largest, to=unit),
    ]
