"""Golden models of `hw.array.bitmod_tile` and `bitmod_engine`: products with group scales, and the rows of a matrix command."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.elements import ELEMENTS, FP32, Element, FloatFormat
from sw.golden.arith.floating import encode, float_add
from sw.golden.pe.bitmod import GUARD, PRECISIONS, group_sums

__all__ = ["product", "result_rows"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def product(element: Element, activations: Ints, codes: Ints, scales: Ints, specials: npt.NDArray[np.float64], *,
            precision: str, group: int) -> npt.NDArray[np.uint64]:
    """Return Σ over groups of scale · Σ activation · weight as float32 words.

    Each group is rounded as a PE rounds, then to float32; groups are added in order, in float32, to nearest, ties to even.
    Numbers below the smallest normal one count as zero.

    Parameters
    ----------
    element : Element
        Of the activations.
    activations : (m, k) int64
        Words.
    codes : (n, k) int64
        Weights as stored.
    scales, specials : (n, ⌈k / group⌉)
        Unsigned 8-bit scales, and special values.
    precision : str
    group : int
        Weights of a group; the last one may have fewer, and steps of four that k does not fill have zeros.

    Returns
    -------
    (m, n) uint64
    """
    m, n, k = len(activations), len(codes), codes.shape[1]
    sums = np.zeros(m * n, np.uint64)
    lsb = -element.bias - element.mantissa_bits - GUARD if isinstance(element, FloatFormat) else 0
    lsb -= PRECISIONS[precision].is_float
    for index, start in enumerate(range(0, k, group)):
        end = min(start + group, k)
        padding = ((0, 0), (0, (start - end) % 4))
        left = np.repeat(np.pad(activations[:, start:end], padding), n, axis=0)
        right = np.tile(np.pad(codes[:, start:end], padding), (m, 1))
        mantissa, exponent = group_sums(element, left, precision, right, np.tile(specials[:, index], m))
        scaled = (mantissa * np.tile(scales[:, index], m)).astype(np.float64)
        words = encode(FP32, np.ldexp(scaled, exponent + lsb))
        sums = float_add(FP32, sums, words) if start else words
    return sums.reshape(m, n)


def result_rows(config: AcceleratorConfig, command: Mapping[str, int], scratchpad: Bytes, *, precision: str, group: int,
                specials: tuple[float, ...]) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, products (C,)) for each row that the engine writes: n-group → m-group → group → row.

    Products are exact: scale · Σ activation · weight over a group, FP4 and FP3 in halves. Layout of the operands:
    `hw.array.bitmod_engine`.
    """
    c, rows, columns = command, config.rows, config.columns
    bits = 8 if PRECISIONS[precision].element.bits > 4 else 4
    slot = 4 * columns * bits // 8

    def codes(addr: int) -> Ints:
        """Return a slot's codes, (columns, 4)."""
        stored = scratchpad[addr:addr + slot]
        listed = stored if bits == 8 else np.stack([stored & 15, stored >> 4], axis=1).ravel()
        return listed.reshape(4, columns).T.astype(np.int64) & (1 << PRECISIONS[precision].element.bits) - 1

    for j in range(-(-c["n"] // columns)):
        used_columns = np.arange(columns) < c["n"] - j * columns
        for i in range(-(-c["m"] // rows)):
            activation = c["activation_addr"] + i * c["activation_tile_stride"]
            weight = c["weight_addr"] + j * c["weight_tile_stride"]
            for start in range(0, c["k"], group):
                header = scratchpad[weight:weight + 2 * columns].reshape(columns, 2).astype(np.int64)
                weight += c["weight_stride"]
                left, right = [], []
                for k in range(start, min(start + group, c["k"]), 4):
                    words = scratchpad[activation:activation + 4 * rows].reshape(4, rows).T.astype(np.int64)
                    left.append(words * (np.arange(4) < c["k"] - k))
                    right.append(codes(weight))
                    activation += c["activation_stride"]
                    weight += c["weight_stride"]
                special = np.array(specials)[header[:, 1] & 3]
                for r in range(min(rows, c["m"] - i * rows)):
                    words = np.tile(np.concatenate(left, axis=1)[r], (columns, 1))
                    sums, _ = group_sums(ELEMENTS["int8"], words, precision, np.concatenate(right, axis=1), special)
                    yield (c["acc_addr"] + j * c["acc_tile_stride"] + i * rows + r, int(c["accumulate"] or start > 0),
                           sums * header[:, 0] * used_columns)
