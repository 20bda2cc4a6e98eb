"""Unsigned multiplication over one pipeline register, or two where one is too slow."""

from amaranth import *

from hw.arith.pipeline import registered

__all__ = ["multiplied", "multiply_latency"]

_ONE_STAGE = 18             # bits of an operand that one multiplier of an FPGA takes


def multiply_latency(width: int) -> int:
    """Return the registers of `multiplied` for operands of that width."""
    return 1 if width <= _ONE_STAGE else 2


def multiplied(m: Module, enable: Value, a: Value, b: Value, name: str) -> Value:
    """Return a · b of unsigned operands of one width, `multiply_latency` cycles with `enable` high later.

    Wide operands are halved: four products, a register, and their sum, which is one carry-save row and one adder.
    """
    width = len(a)
    if multiply_latency(width) == 1:
        return registered(m, enable, a * b, name)
    half = width // 2
    low, left, right, high = (registered(m, enable, x * y, f"{name}_{part}") for part, x, y in (
        ("low", a[:half], b[:half]), ("left", a[half:], b[:half]), ("right", a[:half], b[half:]), ("high", a[half:], b[half:])))
    total = Cat(low, high) + ((left + right) << half)
    return registered(m, enable, total[:2 * width], f"{name}_sum")
