"""Accumulators in rotation of a PIM's MAC array, from one command to the next, and what they leave in the output buffer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sw.golden.pim.reduction import pairwise_sum
from sw.golden.pim.saturating import saturating_add, saturating_sum

__all__ = ["Accumulators"]

Words = npt.NDArray[Any]


@dataclass(slots=True)
class _Open:
    """An accumulation: partial sums, (X, segments, [width,] slots); beats so far; whether it replaces what the entry has."""

    sums: Words
    beats: int
    replaces: bool
    tree: bool


class Accumulators:
    """Open accumulations by entry, of float32 rounded at every addition or of int32 clipped at every addition.

    Parameters
    ----------
    obuf : ndarray, (entries, X, width) float32 or int32
        The output buffer; TREE's outputs are in its first lanes, that of each segment in one.
    slots : int
        Accumulators in rotation.
    """

    def __init__(self, obuf: Words, slots: int):
        self._obuf, self._slots = obuf, slots
        integers = obuf.dtype == np.int32
        self._word: npt.DTypeLike = np.int64 if integers else np.float32
        self._add: Callable[[Words, Words], Words] = saturating_add if integers else np.add
        self._sum: Callable[[Words], Words] = saturating_sum if integers else pairwise_sum
        self._open: dict[int, _Open] = {}

    def add(self, entry: int, products: Words, *, tree: bool, restart: bool, replaces: bool) -> None:
        """Add a beat: (X, segments, width) products, in TREE those of each segment summed up first.

        With `restart`, or if none is open, a new accumulation begins; with `replaces` its result takes the place of what the
        entry has, else it is added.
        """
        if restart or entry not in self._open or self._open[entry].tree is not tree:
            shape = products.shape[:2 if tree else 3]
            self._open[entry] = _Open(np.zeros((*shape, self._slots), self._word), 0, replaces, tree)
        accumulation = self._open[entry]
        place = accumulation.sums[..., accumulation.beats % self._slots]
        place[...] = self._add(place, self._sum(products) if tree else products)
        accumulation.beats += 1

    def close(self, entry: int) -> None:
        """Merge the accumulators of an entry, in BCAST those of the segments too, and write or add what comes out."""
        accumulation = self._open.pop(entry)
        merged = self._sum(accumulation.sums)
        if not accumulation.tree:
            merged = self._sum(np.moveaxis(merged, 1, -1))
        place = self._obuf[entry, :, :merged.shape[-1]]
        place[:] = merged if accumulation.replaces else self._add(place.astype(self._word), merged)
