"""What codes of a PIM's operands stand for, scales aside: levels as float32, and the integers of products in INT32."""

from functools import cache

import numpy as np
import numpy.typing as npt

from hw.elements import FloatFormat, Integer
from hw.families import ScaledFormat
from hw.formats import format_named
from hw.pim.config import PimConfig
from sw.formats.scaled_rounding import levels
from sw.pim.codes import Codes

__all__ = ["SIDE_SPECIAL", "Operand", "operand_named", "ways_of"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SIDE_SPECIAL = 6
"""Lowest bit of the special value's number in a byte of the side table; below it is the zero point."""
_E4M3_LSB = -11             # P3-LLM aligns E4M3 with S0E4M4, whose fraction has a bit more, and shifts by the stored exponent
_NAN_VALUE = 480.0          # E4M3's NaN as an integer: what its bits would be as a number


class Operand:
    """One format of weights or of X.

    Parameters
    ----------
    name : str
        Of `hw.formats`.

    Attributes
    ----------
    bits : int
        Of a code.
    lsb : int
        Weight of bit 0 of `integers` as a power of two.
    has_sides : bool
        A code means something only with its zero point, or with one of several special values.
    """

    def __init__(self, name: str):
        fmt = format_named(name)
        assert isinstance(fmt, ScaledFormat)
        element = fmt.element
        self.bits, self._zero_points = element.bits, bool(fmt.zero_point_bits)
        self.has_sides = self._zero_points or len(fmt.specials) > 1
        table = levels(element)
        self._tables = np.stack([table] * max(1, len(fmt.specials)))
        for row, special in enumerate(fmt.specials):
            self._tables[row, fmt.special_code] = special
        if isinstance(element, Integer):
            self.lsb = -element.fraction_bits
        elif element.name == "float8_e4m3fn":
            self.lsb = _E4M3_LSB
        else:
            assert isinstance(element, FloatFormat)
            self.lsb = -element.bias - element.mantissa_bits + (element.exponent_bits <= 2)   # fixed point: the least subnormal
        negative = np.arange(1 << self.bits) >> self.bits - 1
        numbers = np.where(np.isnan(self._tables), np.where(negative, -_NAN_VALUE, _NAN_VALUE), self._tables.astype(np.float64))
        self._integers = np.ldexp(numbers, -self.lsb)

    def values(self, codes: Codes, sides: Codes | int = 0) -> Floats:
        """Return the levels of codes as float32; `sides`: a byte of the side table for each, or one."""
        level = self._tables[self._special(sides), codes]
        return level - self._zero(sides).astype(np.float32) if self._zero_points else level

    def integers(self, codes: Codes, sides: Codes | int = 0) -> Integers:
        """Return the levels of codes in units of 2^lsb."""
        level = self._integers[self._special(sides), codes].astype(np.int64)
        return level - self._zero(sides) if self._zero_points else level

    def _special(self, sides: Codes | int) -> Integers:
        return np.asarray(sides, np.int64) >> SIDE_SPECIAL if len(self._tables) > 1 else np.int64(0)     # type: ignore[return-value]

    def _zero(self, sides: Codes | int) -> Integers:
        return np.asarray(sides, np.int64) & (1 << self.bits) - 1


@cache
def operand_named(name: str) -> Operand:
    """Return how codes of a format are read."""
    return Operand(name)


def ways_of(config: PimConfig) -> tuple[tuple[Operand, Operand], ...]:
    """Return the formats of weights and X by register OPERANDS: weights × activations, K × queries, V × probabilities."""
    return tuple((operand_named(weight), operand_named(x)) for weight, x in (
        (config.wtype, config.xtype), (config.kvtype, config.xtype), (config.kvtype, config.ptype)))
