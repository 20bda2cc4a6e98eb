"""Values with coordinates → lanes: what decoders of structured sparsity are made of."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from amaranth import *

__all__ = ["scatter", "slots"]


def slots(field: Value, count: int) -> list[Value]:
    """Return the `count` elements of a field of a packed word (`packed_layout`), which is no array where there is one."""
    return [field] if count == 1 else [field[index] for index in range(count)]


def scatter(values: Sequence[Value], places: Sequence[Value], lanes: int) -> list[Value]:
    """Return `lanes` lanes: value i in lane `places[i]`, zero in lanes without a value.

    Places increase strictly, so that slot i of n can only be in lanes i to `lanes` − n + i, and only those are wired: a pattern
    that keeps everything is no multiplexer. What no encoder writes is defined all the same: a slot whose place is not among
    those is dropped; values in one lane are ORed.
    """
    spare = lanes - len(values)
    return [_any(value & (place == lane).replicate(len(value))
                 for slot, (value, place) in enumerate(zip(values, places, strict=True)) if slot <= lane <= slot + spare)
            for lane in range(lanes)]


def _any(values: Iterable[Value]) -> Value:
    return reduce(or_, values)
