"""Which bits of a word a fault may hit: one, or some neighbours; each such pattern once."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.plan import Plan
from flows.fault.netlist.ir import WORD
from flows.fault.records import Kind

__all__ = ["MBU_SIZES", "Patterns", "lowest_bits", "patterns_of"]

MBU_SIZES = (2, 3, 4)
"""Bits of an MBU unless one number is chosen."""


@dataclass(frozen=True)
class Patterns:
    """The masks of a word, in order of the lowest bit, then of the number of bits.

    Attributes
    ----------
    sizes : tuple of int
        How many adjacent bits are hit; a word that has fewer is hit as a whole.
    """

    sizes: tuple[int, ...] = (1,)

    def of(self, width: int) -> npt.NDArray[np.uint32]:
        """Return all masks of a word of `width` bits."""
        return _masks(self.sizes, width)

    def counts(self, widths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many masks words of these widths have."""
        known = np.array([0, *(len(self.of(width)) for width in range(1, WORD + 1))], np.int64)
        return known[widths]

    def masks(self, widths: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Return mask number `places` of words of these widths."""
        if self.sizes == (1,):          # most campaigns, and the fast ones
            return np.uint32(1) << places.astype(np.uint32)
        found = np.zeros(len(places), np.uint32)
        for width in np.unique(widths):
            mine = widths == width
            found[mine] = self.of(int(width))[places[mine]]
        return found

    def places(self, widths: npt.NDArray[np.int64], masks: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Return which of its word's masks each mask is."""
        if self.sizes == (1,):
            return lowest_bits(masks)
        found = np.zeros(len(masks), np.int64)
        for width in np.unique(widths):
            mine, known = widths == width, self.of(int(width))
            order = np.argsort(known)
            found[mine] = order[np.searchsorted(known, masks[mine], sorter=order)]
        return found


@functools.cache
def _masks(sizes: tuple[int, ...], width: int) -> npt.NDArray[np.uint32]:
    counts = sorted({min(size, width) for size in sizes})
    return np.array([((1 << count) - 1) << low for low in range(width) for count in counts if low + count <= width], np.uint32)


def lowest_bits(masks: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Return the number of the lowest bit that is set in each mask."""
    wide = masks.astype(np.int64)
    return np.round(np.log2((wide & -wide).astype(float))).astype(np.int64) if len(masks) else wide


def patterns_of(plan: Plan) -> Patterns:
    """Return the patterns that a plan draws from."""
    if plan.kind != Kind.MBU:
        return Patterns()
    return Patterns((plan.adjacent,) if plan.adjacent else MBU_SIZES)
