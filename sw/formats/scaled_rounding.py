"""Rounding float32 to the codes of an element: to nearest, ties by rule.

Between neighbours a < b with midpoint m stands a cut, a float32 c such that x rounds to b exactly where x > c: the largest
float32 ≤ m where a tie goes to a, the largest < m where it goes to b. So one comparison serves every rule of ties. Where all
midpoints have at most 7 fraction bits (FP8 and narrower), the upper half of a float32 with one bit for "anything below" decides
every comparison, and a table of 2^17 codes replaces them; a codebook compares with each cut.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.elements import BF16, FP16, FP32, Element, FloatFormat, Integer, Specials
from sw.packing import field_dtype

__all__ = ["Floats", "Rounding", "levels", "plain_rounding", "rounding", "special_cuts"]

Floats = npt.NDArray[np.float32]
Rounding = Callable[[Floats], npt.NDArray[Any]]
"""float32 of any shape, no NaN → codes of that shape."""

_CASTS: dict[Element, Any] = {FP32: np.float32, FP16: np.float16, BF16: ml_dtypes.bfloat16}


@functools.cache
def levels(element: Element) -> Floats:
    """Return the value of every code of `element` (up to 16 bits), (2^bits,) float32."""
    return np.array(element.values, np.float32)


@dataclass(frozen=True)
class _Ladder:
    """Levels in ascending order, and the cuts between them."""

    values: npt.NDArray[np.float64]
    codes: npt.NDArray[Any]
    cuts: Floats


def _cut(lower: tuple[float, int], upper: tuple[float, int], ties: str) -> np.float32:
    """Return the cut between two neighbours, each (value, code)."""
    middle = (lower[0] + upper[0]) / 2
    up = {"down": False, "away": abs(upper[0]) > abs(lower[0]), "even": upper[1] % 2 == 0 and lower[1] % 2 == 1}[ties]
    cut = np.float32(middle)
    if float(cut) > middle or (up and float(cut) == middle):    # as float64: against a float32, middle would be rounded first
        cut = np.nextafter(cut, np.float32(-np.inf))
    return cut


@functools.cache
def _ladder(element: Element, ties: str, without: int | None, overflow: bool) -> _Ladder:
    """Return levels and cuts; `without`: a code that is not one; `overflow`: beyond the largest comes infinity."""
    by_value: dict[float, int] = {}
    for code, value in enumerate(element.values):
        if np.isfinite(value) and code != without:
            by_value.setdefault(value, code)                # of the two zeros, that with the lower code
    ladder = sorted(by_value.items())
    cuts = [_cut(a, b, ties) for a, b in itertools.pairwise(ladder)]
    if overflow:
        (a, _), (b, _) = ladder[-2:]
        infinity = element.values.index(np.inf)
        top = _cut(ladder[-1], (2 * b - a, infinity), ties)
        bottom = _cut((a - 2 * b, element.values.index(-np.inf)), ladder[0], ties)
        ladder = [(-np.inf, element.values.index(-np.inf)), *ladder, (np.inf, infinity)]
        cuts = [bottom, *cuts, top]
    return _Ladder(np.array([value for value, _ in ladder]), np.array([code for _, code in ladder], field_dtype(element.bits)),
                   np.array(cuts, np.float32))


@functools.cache
def rounding(element: Element, ties: str = "even", *, symmetric: bool = True, without: int | None = None) -> Rounding:
    """Return what rounds to nearest and saturates.

    Zero is the code of zero, of two that with the lower code: never −0.

    Parameters
    ----------
    element : Element
    ties : str
        "even" (the even code; where both or none is, the lower value), "away" (from zero) or "down" (the lower value).
    symmetric : bool
        Integers: not to the most negative code.
    without : int or None
        A code that stands for something else.
    """
    if isinstance(element, Integer):
        return _integer_rounding(element, ties, symmetric)
    if element in _CASTS:
        return functools.partial(_cast, element=element)
    ladder = _ladder(element, ties, without, False)
    return _fastest(functools.partial(_compare, ladder=ladder), ladder.cuts)


@functools.cache
def plain_rounding(element: Element, ties: str) -> Rounding:
    """Return what casts, NaN and infinities included, and keeps the sign of zero."""
    if element in _CASTS:
        return functools.partial(_cast, element=element)
    assert isinstance(element, FloatFormat)
    ladder = _ladder(element, ties, None, element.specials is Specials.IEEE)
    negative_zero = 1 << (element.bits - 1) if element.signed else 0
    nan = next((code for code, value in enumerate(element.values) if np.isnan(value)), 0)

    def cast(x: Floats) -> npt.NDArray[Any]:
        codes = _compare(x, ladder)
        codes[(codes == 0) & np.signbit(x)] = negative_zero
        codes[np.isnan(x)] = nan
        return codes

    return _fastest(cast, ladder.cuts)


def special_cuts(element: Element, ties: str, special: float, code: int) -> tuple[np.float32, np.float32]:
    """Return (low, high): x rounds to `special`, which code `code` stands for, exactly where low < x ≤ high."""
    ladder = _ladder(element, ties, code, False)
    at = int(np.searchsorted(ladder.values, special))
    pairs = [(float(value), int(other)) for value, other in zip(ladder.values, ladder.codes, strict=True)]
    low = _cut(pairs[at - 1], (special, code), ties) if at > 0 else np.float32(-np.inf)
    high = _cut((special, code), pairs[at], ties) if at < len(pairs) else np.float32(np.inf)
    return low, high


def _integer_rounding(element: Integer, ties: str, symmetric: bool) -> Rounding:
    """Return the rounding of an integer or fixed-point element."""
    lowest = -element.maximum if element.signed and symmetric else element.minimum
    mask, dtype = (1 << element.width) - 1, field_dtype(element.bits)
    signed = np.dtype(np.int8 if dtype.itemsize == 1 else np.int16) if element.signed else dtype
    step = np.float32(1 << element.fraction_bits)

    def round_integer(x: Floats) -> npt.NDArray[Any]:
        whole = round_to_integer(x * step if element.fraction_bits else x, ties)
        np.clip(whole, lowest, element.maximum, out=whole)
        codes = whole.astype(signed).view(dtype)
        return codes if element.width in (8, 16) else codes & dtype.type(mask)

    return round_integer


def round_to_integer(x: Floats, ties: str) -> Floats:
    """Return the integers next to x, as float32; x − trunc(x) is exact, so that ties are seen exactly."""
    if ties == "even":
        return np.rint(x)
    whole = np.trunc(x)
    rest = x - whole
    whole += rest >= 0.5 if ties == "away" else rest > 0.5
    whole -= rest <= -0.5
    return whole


def _cast(x: Floats, element: Element) -> npt.NDArray[Any]:
    """Return the codes of a type that numpy or `ml_dtypes` casts to."""
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(_CASTS[element], copy=False).view(field_dtype(element.bits))


def _fastest(slow: Rounding, cuts: Floats) -> Rounding:
    """Return `slow` as a table by heads where these decide x > cut for every cut; else `slow`."""
    bits = cuts.view(np.uint32)
    low, negative = bits & 0xFFFF, bits >> 31 == 1
    if not ((low == 0) | (low == np.where(negative, 1, 0xFFFF))).all():
        return slow
    index = np.arange(1 << 17, dtype=np.uint32)
    heads = (index >> 1 << 16 | index & 1).view(np.float32)         # a lower half of 1 stands for any but 0
    return functools.partial(_look_up, table=slow(heads))


def _look_up(x: Floats, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the codes of x from a table by heads."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    index = bits & 0xFFFF
    index += 0xFFFF
    index >>= 16
    index |= bits >> 16 << 1
    return table.take(index.view(np.int32))


def _compare(x: Floats, ladder: _Ladder) -> npt.NDArray[Any]:
    """Return the codes of x from as many comparisons as there are cuts; from a binary search where these are many."""
    if len(ladder.cuts) > 64:
        return ladder.codes[np.searchsorted(ladder.cuts, x)]
    rank = np.zeros(x.shape, np.uint8)
    above = np.empty(x.shape, np.bool_)
    for cut in ladder.cuts:
        np.greater(x, cut, out=above)
        rank += above.view(np.uint8)
    return ladder.codes.take(rank)
