"""Canonical Huffman codes of limited length over bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.formats.codec import FormatError

__all__ = ["CanonicalCode", "code_lengths"]

_SYMBOLS = 256


def code_lengths(counts: Sequence[int], longest: int) -> npt.NDArray[np.uint8]:
    """Return the code lengths of the shortest prefix code none of whose codes is longer than `longest` bits.

    Package-merge (Larmore and Hirschberg, J. ACM 37, 1990): the result is optimal, and as good as Huffman's where that keeps
    within the limit. A symbol that occurs alone has a code of one bit.

    Parameters
    ----------
    counts : sequence of 256 int
        How often each symbol occurs, 0 or more.
    longest : int
        8 or more.

    Returns
    -------
    (256,) uint8
        0 for a symbol that does not occur.

    Raises
    ------
    FormatError
        If no symbol occurs.
    """
    order = sorted((int(count), symbol) for symbol, count in enumerate(counts) if count)
    if not order:
        raise FormatError("a code must be of at least one symbol, not of none")
    lengths = np.zeros(_SYMBOLS, np.uint8)
    if len(order) == 1:
        lengths[order[0][1]] = 1
        return lengths
    # Every list has each symbol once and packages: pairs from the list before, which stand for codes that are one bit longer.
    leaves = [(count, False) for count, _ in order]
    packages: list[tuple[int, bool]] = []
    lists: list[list[bool]] = []
    for _ in range(longest):
        merged = sorted(leaves + packages)                  # of equal weights, symbols first
        lists.append([is_package for _, is_package in merged])
        packages = [(a + b, True) for (a, _), (b, _) in zip(merged[::2], merged[1::2], strict=False)]
    taken = 2 * len(order) - 2
    for is_package in reversed(lists):
        in_packages = sum(is_package[:taken])
        for _, symbol in order[:taken - in_packages]:
            lengths[symbol] += 1
        taken = 2 * in_packages
    return lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class CanonicalCode:
    """A prefix code whose codes of each length are consecutive: those of shorter codes first, then in order of the symbols.

    A decoder looks at the next `longest` bits as a number w. The code has the least length l for which w < limits[l]; its symbol
    is symbols[base[l] + (w >> (longest − l))].

    Attributes
    ----------
    longest : int
        Bits that a decoder looks at, at most 32.
    lengths : (256,) uint8
        Bits of each symbol's code, 0 for symbols without one.
    codes : (256,) uint32
        Code of each symbol, in its low bits.
    symbols : (used,) uint8
        Symbols in order of their codes.
    limits : (longest + 1,) uint64
        For each length, the end of the codes of at most that length, as numbers of `longest` bits.
    base : (longest + 1,) int64
        For each length, what is added to a code to find its place in `symbols`.
    """

    longest: int
    lengths: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.uint32]
    symbols: npt.NDArray[np.uint8]
    limits: npt.NDArray[np.uint64]
    base: npt.NDArray[np.int64]

    @classmethod
    def from_lengths(cls, lengths: npt.NDArray[np.uint8], longest: int) -> "CanonicalCode":
        """Return the code of given lengths: (256,) uint8, 0 for symbols without a code.

        Raises
        ------
        FormatError
            If there is no prefix code of these lengths.
        """
        if lengths.shape != (_SYMBOLS,) or lengths.dtype != np.uint8:
            raise FormatError(f"lengths must be 256 uint8, not {lengths.dtype} of shape {lengths.shape}")
        if lengths.max() == 0 or lengths.max() > longest:
            raise FormatError(f"the longest code must be between 1 and {longest} bits, not {lengths.max()}")
        order = np.flatnonzero(lengths)
        order = order[np.argsort(lengths[order], kind="stable")]
        sizes = np.uint64(1) << (longest - lengths[order].astype(np.uint64))
        ends = np.cumsum(sizes)
        if ends[-1] > 1 << longest:
            raise FormatError(f"lengths must be of a prefix code, not of codes that take {ends[-1] / 2.0**longest} of all bits")
        codes = np.zeros(_SYMBOLS, np.uint32)
        codes[order] = (ends - sizes) >> (longest - lengths[order].astype(np.uint64))
        counts = np.bincount(lengths[order], minlength=longest + 1)
        after = np.cumsum(counts)                           # codes of at most that length
        limits = np.concatenate((np.zeros(1, np.uint64), ends))[after]
        starts = np.concatenate((np.zeros(1, np.uint64), limits[:-1])) >> np.arange(longest, -1, -1).astype(np.uint64)
        return cls(longest=longest, lengths=lengths, codes=codes, symbols=order.astype(np.uint8), limits=limits,
                   base=after - counts - starts.astype(np.int64))
