"""Accumulators in rotation of a PIM's MAC array, from one command to the next, and what they leave in the output buffer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.golden.pim.reduction import pairwise_sum

__all__ = ["Accumulators"]

Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Open:
    """An accumulation: partial sums, (…, slots); beats so far; whether it replaces what the entry has."""

    sums: Floats
    beats: int
    replaces: bool
    tree: bool


class Accumulators:
    """Open accumulations by entry.

    Parameters
    ----------
    obuf : ndarray, (entries, X, lanes) float32
        The output buffer; TREE's outputs are in lane 0.
    slots : int
        Accumulators in rotation.
    """

    def __init__(self, obuf: Floats, slots: int):
        self._obuf, self._slots = obuf, slots
        self._open: dict[int, _Open] = {}

    def add(self, entry: int, products: Floats, *, tree: bool, restart: bool, replaces: bool) -> None:
        """Add a beat: (X, lanes) products, in TREE summed up first.

        With `restart`, or if none is open, a new accumulation begins; with `replaces` its result takes the place of what the
        entry has, else it is added.
        """
        rows, lanes = products.shape
        if restart or entry not in self._open or self._open[entry].tree is not tree:
            shape = (rows, self._slots) if tree else (rows, lanes, self._slots)
            self._open[entry] = _Open(np.zeros(shape, np.float32), 0, replaces, tree)
        accumulation = self._open[entry]
        accumulation.sums[..., accumulation.beats % self._slots] += pairwise_sum(products) if tree else products
        accumulation.beats += 1

    def close(self, entry: int) -> None:
        """Merge the accumulators of an entry and write or add what comes out."""
        accumulation = self._open.pop(entry)
        merged = pairwise_sum(accumulation.sums)
        place = self._obuf[entry, :, 0] if accumulation.tree else self._obuf[entry]
        place[:] = merged if accumulation.replaces else place + merged
