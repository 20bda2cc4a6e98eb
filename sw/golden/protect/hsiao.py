"""Golden model of `hw.protect.hsiao`: the check matrix as its rule says, and decoding by trying every bit."""

import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["check_matrix", "decode", "encode"]

Bits = npt.NDArray[np.uint8]


def check_matrix(width: int) -> Bits:
    """Return the r × (width + r) check matrix, the columns of the data bits first.

    Odd columns of at least three ones, by weight; among those of a weight the one whose rows are emptiest is next, and of equal
    ones that which is the smallest number with row 0 as its lowest bit.
    """
    rows = next(r for r in itertools.count(3) if 2 ** (r - 1) - r >= width)
    numbers = np.arange(1 << rows)
    every: Bits = (numbers >> np.arange(rows)[:, None] & 1).astype(np.uint8)
    weights = every.sum(0)
    free = (weights % 2 == 1) & (weights > 1)
    matrix = np.zeros((rows, 0), np.uint8)
    for _ in range(width):
        lightest = free & (weights == weights[free].min())
        cost = np.where(lightest, matrix.sum(1, dtype=np.int64) @ every, np.iinfo(np.int64).max)
        chosen = int(cost.argmin())
        free[chosen] = False
        matrix = np.hstack([matrix, every[:, [chosen]]])
    return np.hstack([matrix, np.eye(rows, dtype=np.uint8)])


def _bits(words: npt.ArrayLike, width: int) -> Bits:
    return np.array([[int(word) >> i & 1 for i in range(width)] for word in np.atleast_1d(np.asarray(words, object))], np.uint8)


def _word(bits: Bits) -> int:
    return sum(int(bit) << i for i, bit in enumerate(bits))


def encode(data: int, width: int) -> int:
    """Return the check bits of `data`."""
    return _word(check_matrix(width)[:, :width] @ _bits(data, width)[0] % 2)


def decode(data: int, check: int, width: int) -> tuple[int, int, bool, bool]:
    """Return data and check bits put right, whether a bit was wrong, and whether that cannot be helped.

    Every word at distance 1 from what was stored is tried for being a word of the code.
    """
    matrix = check_matrix(width)
    stored = np.concatenate([_bits(data, width)[0], _bits(check, len(matrix))[0]])
    if not (matrix @ stored % 2).any():
        return data, check, False, False
    near = stored ^ np.eye(len(stored), dtype=np.uint8)
    right = near[~((matrix @ near.T) % 2).any(0)]
    if not len(right):
        return data, check, False, True
    return _word(right[0][:width]), _word(right[0][width:]), True, False
