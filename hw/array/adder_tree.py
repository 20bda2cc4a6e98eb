"""Trees of adders and of multiplexers, for columns of multipliers."""

from amaranth import *

__all__ = ["added", "selected"]


def selected(values: dict[int, Value], index: Value) -> Value:
    """Return the value at `index`, one of the keys: a tree of multiplexers without those for other indices."""
    if len(values) == 1:
        return next(iter(values.values()))
    bit = max(values).bit_length() - 1
    low, high = ({key: value for key, value in values.items() if (key >> bit & 1) == half} for half in (0, 1))
    high = {key - (1 << bit): value for key, value in high.items()}
    return Mux(index[bit], selected(high, index), selected(low, index)) if low else selected(high, index)


def added(values: list[Value]) -> Value:
    """Return the sum of values, added in pairs."""
    while len(values) > 1:
        values = [left + right for left, right in zip(values[::2], values[1::2], strict=False)] + values[len(values) & ~1:]
    return values[0]
