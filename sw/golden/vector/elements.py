"""What a vector command computes, the definition: numpy's float32 arithmetic, rounded to nearest, ties to even, at every step."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.elements import FP32
from hw.isa import RowUse, StreamUse, VectorFunction
from sw.golden.arith.functions import exp2, normal, reciprocal, rsqrt, sigmoid

__all__ = ["PARTIAL_SUMS", "apply_function", "greater", "limit", "row_maximum", "row_sum", "transform"]

Floats = npt.NDArray[np.float32]
PARTIAL_SUMS = 8                # running sums of a row, of every eighth slice each
INT32 = np.iinfo(np.int32)
_FUNCTIONS = {
    VectorFunction.EXP2: exp2, VectorFunction.SIGMOID: sigmoid, VectorFunction.NORMAL: normal,
    VectorFunction.RECIPROCAL: reciprocal, VectorFunction.RSQRT: rsqrt,
}
_OF_ONE_FORMAT = (VectorFunction.SIGMOID, VectorFunction.NORMAL)        # their results are never subnormal words by an option


def apply_function(function: VectorFunction, values: Floats) -> Floats:
    """Return function(values), bit by bit as the hardware makes it: any shape → that shape."""
    if function is VectorFunction.IDENTITY:
        return values
    options = {} if function in _OF_ONE_FORMAT else {"subnormals": True}
    words = _FUNCTIONS[function](FP32, np.ascontiguousarray(values).view(np.uint32), **options)
    return words.astype(np.uint32).view(np.float32)


def greater(a: Floats, b: Floats) -> Floats:
    """Return the maximum: NaN if either is, and −0 is less than +0."""
    return np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))


def limit(x: Floats, bound: Floats) -> Floats:
    """Return x with magnitudes of at most that of `bound`, NaN as +|bound|."""
    largest = np.abs(bound)
    return np.where(np.isnan(x), largest, np.where(np.abs(x) > largest, np.copysign(largest, x), x))


def row_sum(values: Floats, lanes: int) -> Floats:
    """Return the sums of rows, (…, n) → (…), in the order in which the hardware adds.

    The elements of a slice in pairs of neighbours, pairs of pairs, and so on; slice s to the running sum s mod 8; at last those
    eight, in pairs again. What is missing is +0.
    """
    *lead, n = values.shape
    rounds = -(-n // (PARTIAL_SUMS * lanes))
    whole = np.zeros((*lead, rounds * PARTIAL_SUMS * lanes), np.float32)
    whole[..., :n] = values
    padded = whole.reshape(*lead, rounds, PARTIAL_SUMS, lanes)
    missing = (1 << (lanes - 1).bit_length()) - lanes
    if missing:
        padded = np.concatenate((padded, np.zeros((*lead, rounds, PARTIAL_SUMS, missing), np.float32)), axis=-1)
    by_slice = _pairwise(padded)
    partial = np.zeros((*lead, PARTIAL_SUMS), np.float32)
    for step in range(rounds):
        partial = partial + by_slice[..., step, :]
    return _pairwise(partial)


def _pairwise(values: Floats) -> Floats:
    """Add along the last axis, a power of two long, neighbours first."""
    while values.shape[-1] > 1:
        values = values[..., 0::2] + values[..., 1::2]
    return values[..., 0]


def row_maximum(values: Floats, seed: Floats | None) -> Floats:
    """Return the maxima of rows, (…, n) → (…): NaN if anything is, and not less than `seed`, (…), where given."""
    result = values.max(axis=-1)
    positive = ((values == 0) & ~np.signbit(values)).any(axis=-1)
    result = np.where(result == 0, np.where(positive, np.float32(0), np.float32(-0.0)), result)
    return result if seed is None else greater(result, seed)


def transform(fields: Mapping[str, int], a: npt.NDArray[np.generic], b: Floats | np.float32, c: npt.NDArray[np.generic] | None,
              row0: Floats | None, row1: Floats | None, first_row: int) -> tuple[Floats, Floats]:
    """Return function values and results of a block of rows; the arrays may have another axis in front, of runs side by side.

    Parameters
    ----------
    fields : mapping of str to int
        The command.
    a : (m, n) int64 (accumulator words) or float32
    b : (m, n), (1, n) or () float32
    c : (m, n) or (1, n) int32 or float32, or None
    row0, row1 : (m, 1) float32, or None where they are not used; row1 with the sign that the command gives it
    first_row : int
        Of the command, that the block begins with.

    Returns
    -------
    function_values, results : (m, n) float32
    """
    if fields["c_use"] == StreamUse.BIAS and c is not None:
        a = np.clip(a.astype(np.int64) + c.astype(np.int64), INT32.min, INT32.max)
    values = a.astype(np.float32)
    constant = np.array([fields["constant"]], np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        x = values * b
        if row0 is not None:
            x = x * row0
        if fields["middle"]:
            operand = _operand(fields, constant, c, StreamUse.MIDDLE, row1, RowUse.MIDDLE)
            if fields["middle"] == 2:
                x = greater(x, operand)
            elif fields["middle"] == 1:
                x = x + operand
            else:
                x = limit(x, constant)
                if operand is not constant:
                    x = x + operand
        if fields["mask_en"]:
            limits = fields["mask"] + np.arange(first_row, first_row + x.shape[-2]) * fields["mask_step"]
            x = np.where(np.arange(x.shape[-1]) < limits[:, None], x, np.float32(-np.inf))
        values = apply_function(VectorFunction(fields["function"]), x)
        results = values
        if fields["post"] == 1:
            results = values * _operand(fields, constant, c, StreamUse.POST, row1, RowUse.POST)
        elif fields["post"] == 2:
            results = values * x
    return values, results


def _operand(fields: Mapping[str, int], constant: Floats, c: npt.NDArray[np.generic] | None, stream: StreamUse,
             row1: Floats | None, row: RowUse) -> Floats:
    """Return the operand of a step: C if it is for that, else row1 if that is, else the constant."""
    if fields["c_use"] == stream and c is not None:
        return c.astype(np.float32, copy=False)
    if fields["row1_use"] == row and row1 is not None:
        return row1
    return constant
