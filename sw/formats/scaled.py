"""The codec of `ScaledFormat`: integers, floats, codebooks and special values in blocks with scales.

Every value is divided by its scale in float32 and rounded to the nearest code. The scale is the stored one, rounded to its type,
except with a second level (`outer` "row" with block scales): there codes come from the unrounded block scale and the scales of a
row are quantized to INT8 afterwards, as BitMoD does (Chen et al., HPCA 2025, section III-C).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat, Integer, Specials
from hw.families import ScaledFormat
from sw.formats.codec import Encoded, FormatError, Matrix, check_finite, refuse
from sw.formats.scaled_rounding import Floats, levels, plain_rounding, round_to_integer, rounding
from sw.formats.scaled_scales import (
    Scales,
    decode_scales,
    largest_level,
    positive,
    power_of_two,
    second_level,
    store_scales,
    tensor_scale,
)
from sw.formats.scaled_search import StoreScale, nearest_block_codes
from sw.packing import field_dtype

__all__ = ["ScaledCodec"]

_CHUNK = 1 << 16
"""Values worked on at a time: what keeps the temporaries in cache."""


class ScaledCodec:
    """Quantizes to and from `ScaledFormat`s."""

    in_parts = True

    def quantize(self, fmt: ScaledFormat, matrix: Matrix, *, amax: float | None = None) -> Encoded:
        """Return `matrix` in `fmt`: fields of the packed blocks and outer scales.

        matrix: (rows, columns) float32, C-contiguous; columns is a multiple of the block. amax: the largest magnitude of the
        tensor whose rows these are, which decides a scale for the whole tensor; None: that of `matrix`.

        Raises
        ------
        FormatError
            If a value is NaN or infinite (plain casts take both where the element has them), negative where the element has no
            sign, or a scale does not fit its type; the text names row and column, or row and group.
        """
        _check_quantizable(fmt)
        if fmt.scale_rule == "none":
            return _plain(fmt, matrix)
        if fmt.scale is None:
            return _rows(fmt, matrix)
        return _blocks(fmt, matrix, amax)

    def dequantize(self, fmt: ScaledFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32: the exact value of every code, rounded once.

        Where a second-level or tensor scale multiplies a codebook's level (24 + 8 + 24 bits) the product is one of float64.
        """
        codes = encoded.fields["codes"]
        rows, blocks, block = codes.shape
        if fmt.scale is None:
            if fmt.outer != "none":
                _check_outer(fmt, encoded, rows)
            return _of_rows(fmt, codes.reshape(rows, -1), encoded.side.get("outer_scale"))
        factors = decode_scales(fmt, encoded.fields["scale"].reshape(rows, blocks))
        if fmt.outer != "none":
            _check_outer(fmt, encoded, rows)
            factors = factors.astype(np.float64) * encoded.side["outer_scale"][:, None]
        flat, scale = codes.reshape(-1, block), factors.reshape(-1, 1)
        special = encoded.fields["special"].reshape(-1, 1) if fmt.special_bits else None
        zero = encoded.fields["zero_point"].reshape(-1, 1) if fmt.zero_point_bits else None
        values = np.empty(flat.shape, np.float32)
        table = _levels_by_special(fmt)
        with np.errstate(over="ignore"):
            for part in _chunks(len(flat), block):
                code = flat[part] if special is None else flat[part] | special[part] << np.uint8(fmt.element.bits)
                level = table.take(code)
                if zero is not None:
                    level -= zero[part]
                values[part] = level * scale[part]
        return values.reshape(rows, -1)


def _chunks(count: int, each: int) -> Iterator[slice]:
    """Yield slices over `count` things of `each` values, of about `_CHUNK` values."""
    step = max(1, _CHUNK // max(1, each))
    return (slice(low, low + step) for low in range(0, count, step))


def _check_quantizable(fmt: ScaledFormat) -> None:
    """Raise a FormatError where values of `fmt` have a meaning, but no rule says how to choose them."""
    element, offset = fmt.element, fmt.scale_rule == "range"
    bits = element.bits if offset else 0
    if fmt.zero_point_bits != bits:
        raise FormatError(f"the zero point of {fmt.name} must have {bits} bits with rule {fmt.scale_rule!r}, "
                          f"not {fmt.zero_point_bits}")
    if offset and not (isinstance(element, Integer) and not element.signed and not element.fraction_bits):
        raise FormatError(f"the element of {fmt.name} must be an unsigned integer under a zero point, not {element.name}")
    levels_by_magnitude = fmt.scale_rule == "absmax" and fmt.scale is not None and not isinstance(element, Integer)
    if (fmt.specials or fmt.magnitudes_tried) and not levels_by_magnitude:
        raise FormatError(f"the choices of {fmt.name} must be among levels under block scales of rule 'absmax', "
                          f"not of {element.name} with rule {fmt.scale_rule!r}")


def _check_outer(fmt: ScaledFormat, encoded: Encoded, rows: int) -> None:
    """Raise a FormatError where the outer scale does not fit the format."""
    outer, shape = encoded.side["outer_scale"], (rows,) if fmt.outer == "row" else (1,)
    if outer.shape != shape or outer.dtype != np.float32:
        raise FormatError(f"outer_scale of {fmt.name} must be {shape} float32, not {outer.shape} {outer.dtype}")


def _levels_by_special(fmt: ScaledFormat) -> Floats:
    """Return the level of code + special index · 2^bits."""
    tables = []
    for special in fmt.specials or (None,):
        table = levels(fmt.element).copy()
        if special is not None:
            table[fmt.special_code] = special
        tables.append(table)
    return np.concatenate(tables)


def _of_rows(fmt: ScaledFormat, codes: npt.NDArray[Any], outer: Floats | None) -> Matrix:
    """Return values of codes (rows, columns) without block scales."""
    if fmt.element.bits == 32:
        values = codes.view(np.float32)
    else:
        table = levels(fmt.element)
        values = np.empty(codes.shape, np.float32)
        for part in _chunks(len(codes), codes.shape[1]):
            np.take(table, codes[part], out=values[part], mode="clip")
    with np.errstate(over="ignore"):
        return values.copy() if outer is None else values * outer[:, None]


def _plain(fmt: ScaledFormat, matrix: Matrix) -> Encoded:
    """Cast every value by itself."""
    element = fmt.element
    assert isinstance(element, FloatFormat)
    if not element.signed and (matrix < 0).any():
        refuse(matrix, matrix < 0, f"0 or more in {fmt.name}")
    if element.specials is Specials.NONE and np.isnan(matrix).any():
        refuse(matrix, np.isnan(matrix), f"numbers in {fmt.name}")
    cast = plain_rounding(element, fmt.ties)
    flat = matrix.reshape(-1)
    codes = np.empty(flat.shape, field_dtype(element.bits))
    for part in _chunks(len(flat), 1):
        codes[part] = cast(flat[part])
    return Encoded(fields={"codes": codes.reshape(*matrix.shape, 1)})


def _rows(fmt: ScaledFormat, matrix: Matrix) -> Encoded:
    """Scale every row by its largest magnitude."""
    low, high = matrix.min(axis=1), matrix.max(axis=1)
    amax = np.maximum(-low, high)
    if not np.isfinite(amax).all():
        check_finite(matrix)
    outer = positive(_quotient(fmt, low, high), amax > 0)
    nearest = rounding(fmt.element, fmt.ties, symmetric=fmt.symmetric)
    codes = np.empty(matrix.shape, field_dtype(fmt.element.bits))
    for rows in _chunks(len(matrix), min(_CHUNK, matrix.shape[1])):
        for columns in _chunks(matrix.shape[1], len(matrix[rows])):
            codes[rows, columns] = nearest(matrix[rows, columns] / outer[rows, None])
    return Encoded(fields={"codes": codes[:, :, None]}, side={"outer_scale": outer})


def _quotient(fmt: ScaledFormat, low: Floats, high: Floats) -> Floats:
    """Return the scale at which values between `low` and `high` just fit the element."""
    element = fmt.element
    if isinstance(element, Integer) and not fmt.symmetric:
        unit = np.float32(element.value(1))
        return np.maximum(high / (unit * element.maximum), low / (unit * element.minimum)).astype(np.float32)
    return np.divide(np.maximum(-low, high), largest_level(fmt), dtype=np.float32)


def _blocks(fmt: ScaledFormat, matrix: Matrix, amax: float | None) -> Encoded:
    """Scale every block."""
    assert fmt.scale is not None
    rows, columns = matrix.shape
    blocks = columns // fmt.block
    flat = matrix.reshape(-1, fmt.block)
    outer = None
    if fmt.outer == "tensor":
        largest = max(float(matrix.max()), -float(matrix.min()))
        if not np.isfinite(largest):
            check_finite(matrix)
        if amax is not None and not largest <= np.float32(amax) < np.inf:
            raise FormatError(f"amax must be a number of at least the largest magnitude, {largest:.6g}, not {amax!r}")
        outer = tensor_scale(fmt, largest if amax is None else amax)
    codes = np.empty(flat.shape, field_dtype(fmt.element.bits))
    scale = np.empty(len(flat), np.float32 if fmt.outer == "row" else field_dtype(fmt.scale.bits))
    third = np.zeros(len(flat), field_dtype(fmt.zero_point_bits or 8))           # index of the special value, or zero point
    for part in _chunks(len(flat), fmt.block):
        w = np.ascontiguousarray(flat[part].T)          # a block in each column: sums and scales are along contiguous rows
        low, high = w.min(axis=0), w.max(axis=0)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            check_finite(matrix)
        with np.errstate(over="ignore", under="ignore"):
            found = _encode(fmt, w, low, high, outer, part.start, blocks)
        codes[part], scale[part], third[part] = found[0].T, found[1], found[2]
    side = {}
    if fmt.outer == "row":
        scale, side["outer_scale"] = second_level(scale.reshape(rows, blocks))
    elif outer is not None:
        side["outer_scale"] = np.array([outer])
    fields = {"codes": codes.reshape(rows, blocks, fmt.block), "scale": scale.reshape(rows, blocks, 1)}
    if fmt.zero_point_bits or fmt.special_bits:
        fields["zero_point" if fmt.zero_point_bits else "special"] = third.reshape(rows, blocks, 1)
    return Encoded(fields=fields, side=side)


def _encode(fmt: ScaledFormat, w: Floats, low: Floats, high: Floats, outer: np.float32 | None, first: int,
            blocks: int) -> tuple[npt.NDArray[Any], Scales, npt.NDArray[Any] | int]:
    """Return codes, stored scales, and index of the special value or zero point of the blocks in the columns of w."""
    amax = np.maximum(-low, high)
    nearest = rounding(fmt.element, fmt.ties, symmetric=fmt.symmetric)
    if fmt.scale_rule in ("floor", "ceil"):
        stored, factor = power_of_two(fmt, amax)
        return nearest(w / factor), stored, 0

    def store(scales: Floats) -> tuple[Scales, Floats]:
        if fmt.scale_limits is not None:
            scales = np.clip(scales, np.float32(fmt.scale_limits[0]), np.float32(fmt.scale_limits[1]))
        if fmt.outer == "row":                                  # what is stored is made of all blocks of the row, later
            return scales, positive(scales, amax > 0)
        return store_scales(fmt, scales if fmt.scale_limits is not None else positive(scales, amax > 0), first, blocks)

    if fmt.scale_rule == "range":
        return _encode_range(fmt, w, np.minimum(low, 0), np.maximum(high, 0), store)
    if isinstance(fmt.element, Integer):
        stored, factor = store(_quotient(fmt, low, high))
        return nearest(w / factor), stored, 0
    return nearest_block_codes(fmt, w, amax if outer is None else np.divide(amax, outer), outer, store)


def _encode_range(fmt: ScaledFormat, w: Floats, low: Floats, high: Floats,
                  store: StoreScale) -> tuple[npt.NDArray[Any], Scales, npt.NDArray[Any]]:
    """Return codes, stored scales and zero points of blocks between `low` ≤ 0 and `high` ≥ 0."""
    assert isinstance(fmt.element, Integer)
    largest, dtype = np.float32(fmt.element.maximum), field_dtype(fmt.element.bits)
    stored, factor = store((high - low) / largest)
    zero = np.clip(round_to_integer(-low / factor, fmt.ties), 0, largest)
    codes = np.clip(round_to_integer(w / factor, fmt.ties) + zero, 0, largest)
    return codes.astype(dtype), stored, zero.astype(dtype)
