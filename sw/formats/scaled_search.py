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
from sw.formats.scaled_scales import LEAST, Scales, largest_level

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
    nearest = rounding(fmt.element, fmt.ties, symmetric=fmt.symmetric, without=fmt.special_code if fmt.specials else None)
    tries = _tries(fmt)
    alone = sum(len(specials) for _, specials in tries) == 1
    kept, least = np.zeros(w.shape[1], np.uint8), np.full(w.shape[1], np.inf)
    scaled, number = [], 0
    for divisor, specials in tries:
        stored, factor = store(reach / np.float32(divisor))
        x = w / (factor if outer is None else np.maximum(factor * outer, LEAST))    # of tiny tensors the product underflows
        codes = nearest(x)
        scaled.append((x, codes, stored))
        if alone:
            break
        error = levels(fmt.element).take(codes)
        error -= x
        error *= error
        for _, special in specials:
            total = _total(error, x, special) * np.square(factor, dtype=np.float64)
            if number == 0:
                least = total
            better = total < least
            kept[better] = number
            np.copyto(least, total, where=better)
            number += 1
    return _assemble(fmt, tries, kept, scaled)


def _total(error: Floats, x: Floats, special: float | None) -> npt.NDArray[np.float64]:
    """Return the sum of squared errors of each block; a special value is taken where it is nearer."""
    if special is not None:
        distance = x - np.float32(special)
        distance *= distance
        error = np.minimum(error, distance, out=distance)
    return np.add.reduce(error, axis=0, dtype=np.float64)


def _assemble(fmt: ScaledFormat, tries: list[tuple[float, list[Try]]], kept: npt.NDArray[np.uint8],
              scaled: list[Any]) -> tuple[npt.NDArray[Any], Scales, npt.NDArray[np.uint8]]:
    """Return codes, scales and indices of the try that each block keeps; `scaled` has values, codes and scales by divisor."""
    number, index_of_try = 0, []
    _, all_codes, all_stored = scaled[0]
    for (x, codes, stored), (_, specials) in zip(scaled, tries, strict=True):
        first = number
        low, high = np.full(len(kept), np.inf, np.float32), np.full(len(kept), np.inf, np.float32)
        for index, special in specials:
            if special is not None:
                mine = kept == number
                low[mine], high[mine] = special_cuts(fmt.element, fmt.ties, special, fmt.special_code)
            index_of_try.append(index)
            number += 1
        if fmt.specials:
            own = x > low
            own &= x <= high
            np.copyto(codes, codes.dtype.type(fmt.special_code), where=own)
        if first:
            mine = (kept >= first) & (kept < number)
            np.copyto(all_codes, codes, where=mine)
            np.copyto(all_stored, stored, where=mine)
    return all_codes, all_stored, np.array(index_of_try, np.uint8)[kept]
