"""Blocks scaled by their largest magnitude: what a block's values round to, and which special value or reach errs least.

A special value only takes over what lies between the midpoints to its neighbours, so that all tries of one divisor share the
rounding to the element's own levels. The error of a try is Σ (x − q)² · scale² over the block, x the scaled value and q its
level in float32, summed in float64; only a smaller error replaces an earlier try.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import ScaledFormat
from sw.formats.scaled_rounding import Floats, levels, rounding, special_cuts
from sw.formats.scaled_scales import Scales, largest_level

__all__ = ["StoreScale", "nearest_block_codes"]

StoreScale = Callable[[Floats], tuple[Scales, Floats]]
"""Unrounded scales of the blocks → what is stored, and the factor it stands for."""

Try = tuple[int, float | None]
"""Index of a special value, and the value; or (0, None)."""


@functools.cache
def _tries(fmt: ScaledFormat) -> list[tuple[float, list[Try]]]:
    """Return (divisor of the largest magnitude, tries) in order."""
    order = fmt.special_order or range(len(fmt.specials))
    specials: list[Try] = [(index, fmt.specials[index]) for index in order] or [(0, None)]
    reaches = fmt.magnitudes_tried or (fmt.element.limits[1] if fmt.specials else largest_level(fmt),)
    flat = [(max(reach, abs(special)) if special is not None and fmt.special_widens else reach, (index, special))
            for reach in reaches for index, special in specials]
    return [(divisor, [one for _, one in group]) for divisor, group in itertools.groupby(flat, key=lambda pair: pair[0])]


def nearest_block_codes(fmt: ScaledFormat, w: Floats, reach: Floats, outer: np.float32 | None,
                        store: StoreScale) -> tuple[npt.NDArray[Any], Scales, npt.NDArray[np.uint8]]:
    """Return codes (block, blocks), stored scales (blocks,) and indices of special values (blocks,) uint8.

    Parameters
    ----------
    fmt : ScaledFormat
    w : (block, blocks) float32
        A block in each column.
    reach : (blocks,) float32
        Largest magnitude over the outer scale.
    outer : float32 or None
        Outer scale of the tensor.
    store : StoreScale
    """
    base_codes = rounding(fmt.element, fmt.ties, symmetric=fmt.symmetric, without=fmt.special_code if fmt.specials else None)
    tries = _tries(fmt)
    alone = sum(len(specials) for _, specials in tries) == 1
    best: tuple[npt.NDArray[Any], Scales, npt.NDArray[np.uint8]] | None = None
    least = np.full(w.shape[1], np.inf)
    for divisor, specials in tries:
        stored, factor = store(reach / np.float32(divisor))
        x = w / (factor if outer is None else factor * outer)
        base = base_codes(x)
        if not alone:
            error = x - levels(fmt.element).take(base)
            error *= error
        for index, special in specials:
            codes, own = base, None
            if special is not None:
                low, high = special_cuts(fmt.element, fmt.ties, special, fmt.special_code)
                own = (x > low) & (x <= high)
                codes = np.where(own, base.dtype.type(fmt.special_code), base)
            if not alone:
                total = _total(error, x, own, special) * np.square(factor, dtype=np.float64)
            if best is None:
                best = codes.copy(), stored.copy(), np.full(w.shape[1], index, np.uint8)
                if not alone:
                    least = total
                continue
            better = total < least
            np.copyto(best[0], codes, where=better)
            np.copyto(best[1], stored, where=better)
            best[2][better] = index
            np.copyto(least, total, where=better)
    assert best is not None
    return best


def _total(error: Floats, x: Floats, own: npt.NDArray[np.bool_] | None, special: float | None) -> npt.NDArray[np.float64]:
    """Return the sum of squared errors of each block, those where `own` taken to `special`."""
    if own is not None:
        distance = x - np.float32(special)
        distance *= distance
        error = np.where(own, distance, error)
    return np.add.reduce(error, axis=0, dtype=np.float64)
