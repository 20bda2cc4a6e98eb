"""BBS in numpy: int8 weights whose low bit columns are a constant of the group, and the channels that keep all columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import ColumnFormat
from sw.formats.codec import Encoded, FormatError, Matrix
from sw.formats.column_search import Integers, clip_int8, drop_columns, redundant_columns, shift_constants
from sw.formats.rows import check_finite, dequantize_rows, quantize_rows

__all__ = ["ColumnCodec", "decode_groups", "encode_groups", "sensitive_channels"]

_TILE = 1024
"""Groups searched at a time: few enough for the working arrays to stay in the cache."""


class ColumnCodec:
    """Codec of `ColumnFormat`: rows of int8 with one scale, then `encode_groups`.

    Reference: Chen et al., BBS, MICRO 2024, III-B and Algorithm 1. Redundant columns are those of two's complement, at most 3,
    as the hardware has them; the released code counts columns of the magnitude, without a limit.
    """

    in_parts = True

    def quantize(self, fmt: ColumnFormat, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`; see `Codec`. NaN and infinities are refused."""
        if fmt.one_of > 1:
            raise FormatError(f"a format that splits channels must be packed by its engine, not quantized alone: {fmt.name!r}")
        check_finite(matrix)
        weights, scale = quantize_rows(matrix)
        fields = encode_groups(fmt, weights.reshape(len(matrix), -1, fmt.block))
        return Encoded(fields=fields, side={"row_scale": scale})

    def dequantize(self, fmt: ColumnFormat, encoded: Encoded) -> Matrix:
        """Return the values of `encoded`; see `Codec`."""
        groups = decode_groups(fmt, encoded.fields)
        return dequantize_rows(groups.reshape(len(groups), -1), encoded.side["row_scale"])


def encode_groups(fmt: ColumnFormat, weights: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[Any]]:
    """Return the fields of groups of integers.

    Parameters
    ----------
    weights : (rows, groups, block) int8
        Between −127 and 127.

    Returns
    -------
    dict of str to ndarray
        (rows, groups, count) for each field, as `Encoded.fields`.
    """
    rows, groups, block = weights.shape
    flat = weights.reshape(-1, block)
    total, stored = len(flat), 8 - fmt.pruned
    planes = np.zeros((total, stored, _bytes(block)), np.uint8)
    redundant, constants = np.empty(total, np.uint8), np.empty(total, np.uint8)
    for start in range(0, total, _TILE):
        part = slice(start, start + _TILE)
        tile = np.ascontiguousarray(flat[part].T, np.int16)             # a group is a column: sums run over whole rows
        columns, redundant[part], constant = (_average if fmt.method == "average" else _shift)(fmt, tile)
        constants[part] = constant & ((1 << fmt.constant_bits) - 1)
        for index in range(stored):
            bits = np.packbits(columns >> (stored - 1 - index) & 1, axis=0, bitorder="little")
            planes[part, index, :len(bits)] = bits.T
    return {
        "columns": planes.view(f"<u{_bytes(block)}").reshape(rows, groups, stored),
        "redundant": redundant.reshape(rows, groups, 1),
        "constant": constants.reshape(rows, groups, 1),
    }


def decode_groups(fmt: ColumnFormat, fields: dict[str, npt.NDArray[Any]]) -> Integers:
    """Return the integers of packed groups, (rows, groups, block) int16.

    They lie between −128 and 127 with averaged columns; a shifted group can reach 2^(constant_bits−1) beyond both.

    Raises
    ------
    FormatError
        If a group has more redundant columns than are pruned, or an averaged group a constant beyond the columns it replaces.
    """
    redundant = fields["redundant"].astype(np.int16)
    constant = fields["constant"].astype(np.int16)
    _check(redundant, fmt.pruned, "redundant columns")
    dropped = fmt.pruned - redundant
    if fmt.method == "average":
        _check(constant, (1 << dropped) - 1, "constant")
    else:
        constant = -(constant - (constant >> (fmt.constant_bits - 1) << fmt.constant_bits))
    planes = np.ascontiguousarray(fields["columns"], f"<u{_bytes(fmt.block)}").view(np.uint8)
    bits = np.unpackbits(planes.reshape(*fields["columns"].shape, -1), axis=-1, count=fmt.block, bitorder="little")
    values = -bits[..., 0, :].astype(np.int16)
    for index in range(1, 8 - fmt.pruned):
        values = 2 * values + bits[..., index, :]
    return (values << dropped) + constant


def sensitive_channels(scales: Sequence[npt.NDArray[np.floating]], fraction: float,
                       multiple: int = 32) -> list[npt.NDArray[np.int64]]:
    """Return which channels of a model keep all their columns: those of the largest scales, over all layers together.

    Parameters
    ----------
    scales : sequence of (channels,) float
        Scale of each channel, for each layer; 0 for a channel of zeros.
    fraction : float
        Share β of the model's channels to keep, 0 to 1; the count is rounded to the nearest integer. Of equal scales, those of
        earlier layers and channels are taken first.
    multiple : int
        Channels that the hardware processes in parallel. A layer's count is rounded up to a multiple of it, or to the layer's
        size where that is less, by channels of its next largest scales; a layer of which none is kept stays without.

    Returns
    -------
    list of (kept,) int64
        Indices of each layer's sensitive channels, ascending.

    Raises
    ------
    FormatError
        If a parameter is out of its range, or a scale is negative or not finite.

    Reference: Chen et al., BBS, MICRO 2024, Algorithm 2 (β = 10 % and 20 %, multiple 32).
    """
    if not 0 <= fraction <= 1:
        raise FormatError(f"fraction must be between 0 and 1, not {fraction!r}")
    if multiple < 1:
        raise FormatError(f"multiple must be at least 1, not {multiple!r}")
    for layer, values in enumerate(scales):
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if bad.size:
            raise FormatError(f"scales must be finite and not negative, not {values[bad[0]]} (layer {layer}, channel {bad[0]})")
    if not scales:
        return []
    layer_of = np.repeat(np.arange(len(scales)), [len(values) for values in scales])
    everything = np.concatenate(scales)
    top = np.argsort(-everything, kind="stable")[:round(fraction * len(everything))]
    counts = np.bincount(layer_of[top], minlength=len(scales))
    chosen = []
    for values, count in zip(scales, counts, strict=True):
        rounded = -(-int(count) // multiple) * multiple
        chosen.append(np.sort(np.argsort(-values, kind="stable")[:rounded]))
    return chosen


def _bytes(block: int) -> int:
    """Return the bytes of the integer type that holds a bit column."""
    return 1 if block <= 8 else 2 if block <= 16 else 4


def _average(fmt: ColumnFormat, weights: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the stored columns as integers (block, groups), redundant columns and constants of groups, by rounded averaging."""
    redundant = redundant_columns(weights.min(axis=0), weights.max(axis=0), fmt.pruned)
    dropped = fmt.pruned - redundant
    low = weights & ((1 << dropped) - 1)
    constant = np.rint(low.sum(axis=0) / fmt.block).astype(np.int16)
    return weights >> dropped, redundant, constant


def _shift(fmt: ColumnFormat, weights: Integers) -> tuple[Integers, Integers, Integers]:
    """Return what `_average` does, by zero-point shifting."""
    constant = shift_constants(weights, fmt.pruned, fmt.constant_bits)
    shifted = clip_int8(weights + constant)
    redundant = redundant_columns(shifted.min(axis=0), shifted.max(axis=0), fmt.pruned)
    return drop_columns(shifted, fmt.pruned, redundant), redundant, constant


def _check(values: Integers, most: Any, what: str) -> None:
    """Raise FormatError, naming row and group, if one of `values` (rows, groups, 1) is more than `most`."""
    most = np.broadcast_to(most, values.shape)
    bad = np.argwhere(values > most)
    if bad.size:
        row, group, _ = where = tuple(int(i) for i in bad[0])
        raise FormatError(f"{what} must be at most {most[where]}, not {values[where]} (row {row}, group {group})")
