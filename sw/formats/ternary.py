"""Sherry in numpy: four weights in five bits, three of them ±scale and the smallest zero."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import TernaryFormat
from sw.formats.codec import Encoded, FormatError, Matrix
from sw.formats.rows import check_finite

__all__ = ["TernaryCodec", "decode_quads", "quad_lanes"]

_PIECE = 1 << 16
"""Weights encoded at a time: few enough for the working arrays to stay in the cache."""


class TernaryCodec:
    """Codec of `TernaryFormat`.

    Of each quad, the weight of the smallest magnitude is dropped (of equals, the first); the scale of a block is the mean
    magnitude of the others, rounded once to float16, where it may also become subnormal or 0. A kept weight of 0, of either sign,
    is +scale: the code has no second zero.

    Reference: Sherry, arXiv 2601.07892, whose scale for training this is; fields as in STQ1_0 blocks of llama.cpp.
    """

    in_parts = True

    def quantize(self, fmt: TernaryFormat, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`; see `Codec`. NaN, infinities, and blocks whose scale exceeds float16 are refused."""
        check_finite(matrix)
        slots, signs, sums = zip(*(_encode(fmt, part) for part in _pieces(matrix)), strict=True)
        scale = _float16(np.concatenate(sums) / (0.75 * fmt.block), fmt)
        return Encoded(fields={"slots": np.concatenate(slots), "signs": np.concatenate(signs), "scale": scale[..., None]})

    def dequantize(self, fmt: TernaryFormat, encoded: Encoded) -> Matrix:
        """Return the values of `encoded`; see `Codec`."""
        words = np.ascontiguousarray(encoded.fields["scale"], np.uint16)
        scale = words.view(np.float16).astype(np.float32)[..., None, :]
        lanes = decode_quads(encoded.fields["slots"], encoded.fields["signs"])
        weights = np.empty((*words.shape[:2], fmt.block), np.float32)
        for lane, place in enumerate(_lanes_of(fmt, weights)):
            np.multiply(lanes[..., lane].reshape(place.shape), scale, out=place)
        return weights.reshape(len(words), -1)


def quad_lanes(fmt: TernaryFormat) -> npt.NDArray[np.int64]:
    """Return the place in the block of every lane of every quad, (quads, 4)."""
    return np.stack([lane.ravel() for lane in _lanes_of(fmt, np.arange(fmt.block)[None, None])], axis=-1)


def decode_quads(slots: npt.NDArray[Any], signs: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Return the lanes of quads: slots (4 bits) and signs (1 bit) of one shape (...) → (..., 4) int8, −1, 0 or +1."""
    return _LANES[np.asarray(slots) | np.asarray(signs) << 4]


def _pieces(matrix: Matrix) -> list[Matrix]:
    """Return `matrix` in pieces of rows small enough for the cache."""
    step = max(1, _PIECE // max(1, matrix.shape[1]))
    return [matrix[row:row + step] for row in range(0, len(matrix), step)]


def _lanes_of(fmt: TernaryFormat, blocks: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return views of the four lanes of blocks (rows, blocks, block): each (rows, blocks, ·, ·), quads in order."""
    if fmt.lanes == "strided":
        split = blocks.reshape(*blocks.shape[:2], -1, 4, 16)
        return [split[..., lane, :] for lane in range(4)]
    split = blocks.reshape(*blocks.shape[:2], 1, -1, 4)
    return [split[..., lane] for lane in range(4)]


def _encode(fmt: TernaryFormat, matrix: Matrix) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return slots and signs (rows, blocks, quads), and the sum of the magnitudes kept of each block (rows, blocks)."""
    lanes = _lanes_of(fmt, matrix.reshape(len(matrix), -1, fmt.block))
    size = [np.abs(lane) for lane in lanes]
    negative = [lane < 0 for lane in lanes]
    # The smallest of each pair, then of the two; only a strictly smaller one takes the place of one before it.
    low, high, upper = size[1] < size[0], size[3] < size[2], np.minimum(size[2], size[3]) < np.minimum(size[0], size[1])
    zero = np.where(upper, high + np.uint8(2), low)
    first = np.where(zero == 0, negative[1], negative[0])
    second = np.where(zero <= 1, negative[2], negative[1])
    third = np.where(zero <= 2, negative[3], negative[2])
    slots = zero << 2 | (third ^ first).view(np.uint8) << 1 | (second ^ first).view(np.uint8)
    dropped = np.minimum(np.minimum(size[0], size[1]), np.minimum(size[2], size[3]))
    total = sum(lane.sum(axis=(2, 3), dtype=np.float64) for lane in size) - dropped.sum(axis=(2, 3), dtype=np.float64)
    shape = (*lanes[0].shape[:2], -1)
    return slots.reshape(shape), first.view(np.uint8).reshape(shape), np.asarray(total)


def _codebook() -> npt.NDArray[np.int8]:
    """Return the lanes of every code: sign << 4 | slot."""
    table = np.zeros((32, 4), np.int8)
    for code in range(32):
        sign, slot = code >> 4, code & 15
        negative = [sign, sign ^ slot & 1, sign ^ slot >> 1 & 1]
        kept = [lane for lane in range(4) if lane != slot >> 2]
        table[code, kept] = [-1 if bit else 1 for bit in negative]
    return table


_LANES = _codebook()


def _float16(scale: npt.NDArray[np.float64], fmt: TernaryFormat) -> npt.NDArray[np.uint16]:
    """Return scales (rows, blocks) as float16 words, or raise FormatError, naming row and columns, if one is too large."""
    with np.errstate(over="ignore"):
        rounded = scale.astype(np.float16)
    bad = np.argwhere(np.isinf(rounded))
    if bad.size:
        row, block = (int(i) for i in bad[0])
        raise FormatError(f"the scale of a block must be below 65520 (float16), not {scale[row, block]:g} "
                          f"(row {row}, columns {block * fmt.block} to {(block + 1) * fmt.block - 1})")
    return rounded.view(np.uint16)
