"""Tensors in a number format made of parts: what a part must know of the whole tensor, and how what lies beside is joined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import ClusteredFormat, Format, HuffmanFormat, ScaledFormat
from sw.checkpoint.matrix import Matrix, StoredMatrix
from sw.formats import QuantizedTensor, quantize
from sw.formats.huffman import exponent_counts
from sw.formats.registry import codec_of
from sw.packing import pack_words

__all__ = ["in_parts", "joined_sides", "known_of", "part_of"]


def in_parts(fmt: Format) -> bool:
    """Return whether rows can be quantized some at a time, as the codec says."""
    return bool(getattr(codec_of(fmt), "in_parts", False))


def known_of(fmt: Format, matrix: StoredMatrix) -> dict[str, Any]:
    """Return what `part_of` must know: the largest magnitude, how often each exponent occurs, or a table.

    The table of a tensor of more than a million values is fitted to rows spread evenly over it.
    """
    if isinstance(fmt, ScaledFormat) and fmt.outer == "tensor":
        return {"amax": max(float(np.abs(rows).max()) for _, rows in matrix.chunks())}
    if isinstance(fmt, HuffmanFormat):
        return {"counts": sum(exponent_counts(rows) for _, rows in matrix.chunks())}
    if isinstance(fmt, ClusteredFormat):
        return {"table": quantize(matrix.sample(), fmt).side["table"]}
    return {}


def part_of(fmt: Format, rows: Matrix, known: dict[str, Any]) -> QuantizedTensor:
    """Return (rows, columns) float32 in `fmt`, as rows of the tensor that `known` tells of."""
    if not isinstance(fmt, HuffmanFormat | ClusteredFormat):
        return quantize(rows, fmt, **known)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % max(1, fmt.block))))
    encoded = codec_of(fmt).quantize(fmt, padded, **known)
    return QuantizedTensor(format=fmt, shape=rows.shape, axis=1, payload=pack_words(fmt, encoded.fields), side=encoded.side)


def joined_sides(fmt: Format, parts: Sequence[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Return what lies beside the blocks of a tensor, from what lies beside those of its parts."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(fmt, ClusteredFormat) or (isinstance(fmt, ScaledFormat) and fmt.outer == "tensor"):
        return first
    joined = {name: np.concatenate([part[name] for part in parts]) for name in first}
    if isinstance(fmt, HuffmanFormat):
        before = np.cumsum([0, *(len(part["stream"]) for part in parts[:-1])]).astype(np.uint32)
        joined["starts"] = np.concatenate([part["starts"] + low for part, low in zip(parts, before, strict=True)])
        joined["lengths"] = first["lengths"]
    return joined
