"""Addition or subtraction with one adder."""

from amaranth import *

__all__ = ["add_subtract"]


def add_subtract(a: Value, b: Value, subtract: Value) -> Value:
    """Return a − b where `subtract`, else a + b: unsigned operands, a signed result two bits wider than the wider one.

    a − b is a + ~b + 1; the 1 comes in as a carry from a place below the lowest.
    """
    width = max(len(a), len(b)) + 2
    padded = Cat(b, C(0, width - len(b)))
    total = Cat(subtract, a) + Cat(subtract, padded ^ subtract.replicate(width))
    return total[1:width + 1].as_signed()
