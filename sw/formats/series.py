"""TASD: int8 tensors as a sum of structured sparse terms, extracted greedily."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import SeriesFormat
from sw.formats.codec import Encoded, FormatError, Matrix
from sw.formats.groups import compress, coordinates, expand, largest
from sw.formats.rows import dequantize_rows, quantize_rows

__all__ = ["SeriesCodec", "decompose", "term_lanes"]

_Integers = npt.NDArray[np.int8]


def decompose(array: _Integers, terms: Sequence[tuple[int, int]]) -> tuple[list[_Integers], _Integers]:
    """Return structured terms of `array`, and what they leave: their sum and the residual are `array`, bit by bit.

    Term i keeps the N largest magnitudes of every M consecutive values that the terms before it have left; of equals, the first.
    No value lies in two terms.

    array: (..., columns) int8, columns a multiple of every M; terms: (N, M) of each → terms and residual, each as `array`.
    """
    residual = array.copy()
    return [residual * mask.reshape(array.shape) for mask in _masks(residual, terms)], residual


def _masks(residual: _Integers, terms: Sequence[tuple[int, int]]) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which values of each group a term keeps, (..., columns / of, of); take them out of `residual` before the next."""
    for keep, of in terms:
        mask = _kept(residual, keep, of)
        yield mask
        residual *= ~mask.reshape(residual.shape)


def _kept(residual: _Integers, keep: int, of: int) -> npt.NDArray[np.bool_]:
    """Return which values of each group a term keeps: (..., columns / of, of) bool."""
    # |−128| wraps to −128, whose bits are 128.
    magnitude = np.abs(residual).view(np.uint8)
    return largest(magnitude.reshape(*residual.shape[:-1], -1, of), keep)


def term_lanes(fmt: SeriesFormat, encoded: Encoded) -> npt.NDArray[np.int8]:
    """Return the terms that a record stands for: (terms, rows, columns) int8.

    Raises
    ------
    FormatError
        If coordinates are out of their range or not strictly increasing.
    """
    found = []
    for index, (keep, of) in enumerate(fmt.terms):
        values, places = encoded.fields[f"values{index}"].view(np.int8), encoded.fields[f"inner{index}"]
        shape = (*values.shape[:2], fmt.block // of, keep)
        places = coordinates(f"inner{index}", places.reshape(shape), of)
        found.append(expand(values.reshape(shape), places, of).reshape(len(values), -1))
    return np.stack(found)


class SeriesCodec:
    """Codec of `SeriesFormat`: the terms of the matrix rounded to int8; the residual is dropped."""

    in_parts = True

    def quantize(self, fmt: SeriesFormat, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`; see `Codec.quantize`."""
        residual, scale = quantize_rows(matrix)
        fields: dict[str, npt.NDArray[Any]] = {}
        for index, ((keep, of), mask) in enumerate(zip(fmt.terms, _masks(residual, fmt.terms), strict=True)):
            values, places = compress(residual, mask, keep)
            shape = (len(matrix), -1, fmt.block // of * keep)
            fields |= {f"values{index}": values.view(np.uint8).reshape(shape), f"inner{index}": places.reshape(shape)}
        return Encoded(fields=fields, side={"row_scale": scale})

    def dequantize(self, fmt: SeriesFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32; see `Codec.dequantize`. A value in two terms is a FormatError."""
        terms = term_lanes(fmt, encoded)
        shared = np.count_nonzero(terms, axis=0) > 1
        if shared.any():
            row, column = (int(i) for i in np.argwhere(shared)[0])
            raise FormatError(f"a value must lie in one term, not in two (row {row}, column {column})")
        return dequantize_rows(np.bitwise_or.reduce(terms, axis=0), encoded.side["row_scale"])
