"""The obvious lines of numpy for each family of formats: what one would write at first, over the whole array.

They are not wrong, only not bit-exact: scales without the levels above them, no rules for ties or empty blocks, nothing packed.
"""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.elements import Codebook, Integer
from hw.families import (
    ClusteredFormat,
    ColumnFormat,
    Format,
    HuffmanFormat,
    OutlierFormat,
    ScaledFormat,
    SeriesFormat,
    SparseFormat,
    TernaryFormat,
)
from hw.formats import format_named
from sw.formats import quantize
from sw.formats.canonical import CanonicalCode

__all__ = ["obvious"]

Array = npt.NDArray[Any]


def obvious(fmt: Format, matrix: Array) -> tuple[str, Any]:
    """Quantize (rows, columns) float32 as one would at first; return how, and what came out."""
    if isinstance(fmt, ScaledFormat):
        return _scaled(fmt, matrix)
    if isinstance(fmt, HuffmanFormat):
        return "bit table, packbits", _huffman(matrix)
    if isinstance(fmt, ClusteredFormat):
        return "quantile, searchsorted", _clustered(fmt, matrix)
    if isinstance(fmt, TernaryFormat):
        return "argmin", _ternary(fmt, matrix)
    if isinstance(fmt, OutlierFormat):
        return "argsort", _outlier(fmt, matrix)
    integers = _int8(matrix)
    if isinstance(fmt, SparseFormat):
        inner = _largest(integers, fmt.inner_keep, fmt.inner_of)
        if fmt.outer_keep == fmt.outer_of:
            return "argsort", inner
        blocks = inner.reshape(-1, fmt.outer_of, fmt.inner_of).astype(np.float32)
        kept = np.argsort(-(blocks**2).sum(axis=-1), axis=-1, kind="stable")[:, :fmt.outer_keep]
        return "argsort", np.take_along_axis(blocks, kept[..., None], axis=1)
    if isinstance(fmt, SeriesFormat):
        terms, left = [], integers
        for keep, of in fmt.terms:
            terms.append(_largest(left, keep, of))
            left = left - terms[-1]
        return "argsort", terms
    assert isinstance(fmt, ColumnFormat)
    return ("mean of low bits", _average(fmt, integers)) if fmt.method == "average" else ("every constant", _shift(fmt, integers))


def _nearest(x: Array, levels: Array) -> tuple[Array, Array]:
    """Return index and value of the nearest level."""
    index = np.searchsorted((levels[1:] + levels[:-1]) / 2, x)
    return index.astype(np.uint8), levels[index]


def _by_search(fmt: ScaledFormat, w: Array) -> Array:
    """Code blocks (…, block) with every special value, and keep the best for each."""
    own = sorted(set(fmt.element.values))
    best, codes = None, None
    for special in fmt.specials or (None,):
        levels = np.array(own if special is None else sorted([*own, special]), np.float32)
        scale = np.abs(w).max(axis=-1, keepdims=True) / np.abs(levels).max()
        index, values = _nearest(w / scale, levels)
        error = ((values * scale - w) ** 2).sum(axis=-1)
        if best is None:
            best, codes = error, index
        else:
            better = error < best
            codes = np.where(better[..., None], index, codes)
            best = np.minimum(best, error)
    return codes


def _scaled(fmt: ScaledFormat, matrix: Array) -> tuple[str, Array]:
    w = matrix.reshape(-1, fmt.block) if fmt.block else matrix
    if fmt.scale_rule == "none":
        return "cast", matrix.astype(getattr(ml_dtypes, fmt.element.name))
    if fmt.scale_rule == "range":
        low, high = w.min(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)
        scale = (high - low) / fmt.element.limits[1]
        return "rint, clip", np.clip(np.rint(w / scale) + np.rint(-low / scale), 0, fmt.element.limits[1]).astype(np.uint8)
    if fmt.specials or fmt.magnitudes_tried or isinstance(fmt.element, Codebook) or not hasattr(ml_dtypes, fmt.element.name):
        if not isinstance(fmt.element, Integer):
            return "searchsorted", _by_search(fmt, w)
    amax = np.abs(w).max(axis=-1, keepdims=True)
    scale = amax / fmt.element.limits[1]
    if fmt.scale_rule == "floor":
        scale = np.exp2(np.floor(np.log2(amax)) - np.floor(np.log2(fmt.element.limits[1])))
    if isinstance(fmt.element, Integer):
        top = fmt.element.maximum
        return "rint, clip", np.clip(np.rint(w / scale * 2**fmt.element.fraction_bits), -top, top).astype(np.int8)
    return "cast", (w / scale).astype(getattr(ml_dtypes, fmt.element.name))


def _int8(matrix: Array) -> Array:
    return np.rint(matrix / (np.abs(matrix).max(axis=1, keepdims=True) / 127)).astype(np.int8)


def _largest(integers: Array, keep: int, of: int) -> Array:
    """Return `integers` with zeros where a value is not among the `keep` largest of its group."""
    groups = integers.reshape(-1, of)
    kept = np.sort(np.argsort(-np.abs(groups), axis=-1, kind="stable")[:, :keep], axis=-1)
    thinned = np.zeros_like(groups)
    np.put_along_axis(thinned, kept, np.take_along_axis(groups, kept, axis=-1), axis=-1)
    return thinned.reshape(integers.shape)


def _outlier(fmt: OutlierFormat, matrix: Array) -> tuple[Array, Array]:
    groups = matrix.reshape(-1, fmt.group)
    order = np.argsort(-np.abs(groups), axis=-1, kind="stable")
    parts = []
    for kind, top, dtype in ((order[:, :fmt.outliers], 127, np.int8),
                             (order[:, fmt.outliers:fmt.outliers + fmt.inliers], 6, ml_dtypes.float4_e2m1fn)):
        values = np.take_along_axis(groups, np.sort(kind, axis=-1), axis=-1)
        values = values.reshape(-1, fmt.block // fmt.group * values.shape[-1])
        scaled = values / (np.abs(values).max(axis=-1, keepdims=True) / top)
        parts.append((np.rint(scaled) if dtype is np.int8 else scaled).astype(dtype))
    return parts[0], parts[1]


def _ternary(fmt: TernaryFormat, matrix: Array) -> tuple[Array, Array, Array]:
    """Return which of a quad is zero with two signs relative to the first, that sign, and scales; quads are of neighbours."""
    quads = matrix.reshape(-1, fmt.block // 4, 4)
    magnitude = np.abs(quads)
    zero = magnitude.argmin(axis=-1)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[zero]
    signs = np.take_along_axis(quads < 0, others, axis=-1).astype(np.uint8)
    slots = zero << 2 | (signs[..., 2] ^ signs[..., 0]) << 1 | signs[..., 1] ^ signs[..., 0]
    scale = np.take_along_axis(magnitude, others, axis=-1).mean(axis=(1, 2)).astype(np.float16)
    return slots.astype(np.uint8), signs[..., 0], scale


def _clustered(fmt: ClusteredFormat, matrix: Array) -> tuple[Array, Array]:
    """Bring blocks to ±1 without their extremes, and code them by levels that Lloyd's steps fit to a sample."""
    blocks = matrix.reshape(-1, fmt.block)
    low, high = np.quantile(blocks, [fmt.outlier_fraction / 2, 1 - fmt.outlier_fraction / 2], axis=-1, keepdims=True)
    x = np.clip((blocks - (low + high) / 2) / ((high - low) / 2), -1, 1)
    sample = x.ravel()[:1 << 18]
    levels = np.quantile(sample, (np.arange(1 << fmt.code_bits) + 0.5) / (1 << fmt.code_bits))
    for _ in range(20):
        index, _ = _nearest(sample, levels)
        count = np.bincount(index, minlength=levels.size)
        levels = np.bincount(index, sample, minlength=levels.size) / np.maximum(count, 1)
    return _nearest(x, levels)


def _huffman(matrix: Array) -> Array:
    """Look the bits of every exponent up, and pack those that are of a code; the code is ours."""
    exponents = (matrix.view(np.uint32) >> 23).astype(np.uint8)
    code = _code(exponents)
    longest = int(code.lengths.max())
    shifts = np.maximum(code.lengths[:, None].astype(np.int64) - 1 - np.arange(longest), 0)
    bits = (code.codes[:, None].astype(np.int64) >> shifts & 1).astype(np.uint8)
    used = np.arange(longest) < code.lengths[:, None]
    flat = exponents.ravel()
    return np.packbits(bits[flat][used[flat]])


def _code(exponents: Array) -> CanonicalCode:
    few = (exponents[:1].astype(np.uint32) << 23).view(np.float32)
    fmt = format_named("dfloat11")
    return CanonicalCode.from_lengths(quantize(few, fmt).side["lengths"], 32)


def _average(fmt: ColumnFormat, integers: Array) -> Array:
    groups = integers.reshape(-1, fmt.block).astype(np.int16)
    low = (1 << fmt.pruned) - 1
    constant = np.rint((groups & low).mean(axis=-1, keepdims=True)).astype(np.int16)
    return _planes(fmt, (groups & ~low) | constant)


def _shift(fmt: ColumnFormat, integers: Array) -> Array:
    """Try every constant with as many columns pruned at the bottom; redundant columns at the top are left."""
    groups = integers.reshape(-1, fmt.block).astype(np.int16)
    step = 1 << fmt.pruned
    best, kept = None, groups
    for constant in range(-(1 << (fmt.constant_bits - 1)), 1 << (fmt.constant_bits - 1)):
        shifted = (np.clip(groups + constant, -128, 127) + step // 2) // step * step
        error = ((shifted - constant - groups) ** 2).sum(axis=-1)
        if best is None:
            best, kept = error, shifted
            continue
        better = error < best
        kept = np.where(better[:, None], shifted, kept)
        best = np.minimum(best, error)
    return _planes(fmt, kept)


def _planes(fmt: ColumnFormat, groups: Array) -> Array:
    """Return the stored bit columns of groups, the highest first."""
    bits = groups[:, None, :] >> np.arange(7, fmt.pruned - 1, -1)[:, None] & 1
    return np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little")
