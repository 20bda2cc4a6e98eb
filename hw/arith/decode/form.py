"""How an element is decoded: widths of significand and exponent, and what they are worth."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from hw.elements import Codebook, Element, FloatFormat, Integer, Specials
from hw.errors import ConfigError

__all__ = ["ElementForm"]

_FIXED_EXPONENT_BITS = 2


def _lsb_of(value: float) -> int:
    """Return the weight of the lowest one of a nonzero value, as a power of two."""
    fraction = Fraction(value)
    return (fraction.numerator & -fraction.numerator).bit_length() - fraction.denominator.bit_length()


def _signed_width(*integers: int) -> int:
    """Return the bits of a two's complement number that holds every one of `integers`."""
    return 1 + max((value if value >= 0 else ~value).bit_length() for value in integers)


@dataclass(frozen=True, kw_only=True)
class ElementForm:
    """What an `ElementDecoder` makes of a code: value = significand · 2^(exponent + lsb).

    Attributes
    ----------
    element, specials, special_code, programmable, fraction_bits, fixed
        Parameters of the decoder.
    is_fixed : bool
        There is no exponent.
    own_lsb : int
        What `lsb` would be without special values.

    Raises
    ------
    ConfigError
        If a parameter does not suit the element.
    """

    element: Element
    specials: tuple[float, ...] = ()
    special_code: int = 0
    programmable: bool = False
    fraction_bits: int | None = None
    fixed: bool | None = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        element = self.element
        if not isinstance(element, (Integer, FloatFormat, Codebook)):
            raise ConfigError(f"ElementForm.element must be an Integer, a FloatFormat or a Codebook, not {element!r}")
        for name in ("fraction_bits", "fixed"):
            value = getattr(self, name)
            if value is not None and not isinstance(element, FloatFormat):
                raise ConfigError(f"ElementForm.{name} must be None for {element.name}, which is no float, not {value!r}")
        if isinstance(element, FloatFormat) and self.fraction_bits is not None and self.fraction_bits < element.mantissa_bits:
            raise ConfigError(f"ElementForm.fraction_bits must be at least {element.mantissa_bits} for {element.name}, "
                              f"not {self.fraction_bits!r}")
        if not 0 <= self.special_code < 1 << element.bits:
            raise ConfigError(f"ElementForm.special_code must be a code of {element.bits} bits, not {self.special_code!r}")
        if self.specials and not self.is_fixed:
            raise ConfigError(f"ElementForm.specials must be empty for {element.name}, which is not fixed point, "
                              f"not {self.specials!r}")
        if not all(math.isfinite(value) for value in self.specials):
            raise ConfigError(f"ElementForm.specials must be finite, not {self.specials!r}")
        if self.programmable and not self.specials:
            raise ConfigError("ElementForm.specials must not be empty where they are programmable, not ()")

    @property
    def is_fixed(self) -> bool:
        """Return whether there is no exponent."""
        if not isinstance(self.element, FloatFormat):
            return True
        return self.element.exponent_bits <= _FIXED_EXPONENT_BITS if self.fixed is None else self.fixed

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN."""
        return isinstance(self.element, FloatFormat) and self.element.specials is not Specials.NONE

    @property
    def has_inf(self) -> bool:
        """Whether a code is an infinity."""
        return isinstance(self.element, FloatFormat) and self.element.specials is Specials.IEEE

    @property
    def padding(self) -> int:
        """Zeros below a float's fraction."""
        if isinstance(self.element, FloatFormat) and self.fraction_bits is not None:
            return self.fraction_bits - self.element.mantissa_bits
        return 0

    @property
    def exponent_width(self) -> int:
        """Bits of the exponent."""
        return self.element.exponent_bits if isinstance(self.element, FloatFormat) and not self.is_fixed else 0

    @property
    def highest_exponent(self) -> int:
        """Largest stored exponent of a finite value of a float."""
        element = self.element
        assert isinstance(element, FloatFormat)
        no_value = element.specials is Specials.IEEE or (element.specials is Specials.NAN and element.mantissa_bits == 0)
        return element.exponent_max - no_value

    @cached_property
    def _own(self) -> tuple[int, int]:
        """Lsb and bits of the significand, special values aside."""
        element = self.element
        if isinstance(element, Integer):
            return -element.fraction_bits, element.width + (not element.signed)
        if isinstance(element, Codebook):
            lsb = min(_lsb_of(value) for value in element.levels if value)
            return lsb, _signed_width(*(int(math.ldexp(value, -lsb)) for value in element.levels))
        assert isinstance(element, FloatFormat)
        lsb, width = -element.bias - element.mantissa_bits - self.padding, 2 + element.mantissa_bits + self.padding
        lowest = int(element.subnormals)
        return (lsb + lowest, width + self.highest_exponent - lowest) if self.is_fixed else (lsb, width)

    @property
    def own_lsb(self) -> int:
        """What `lsb` would be without special values."""
        return self._own[0]

    @cached_property
    def lsb(self) -> int:
        """Weight of the significand's bit 0 where the exponent is 0, as a power of two."""
        return min([self.own_lsb, *(_lsb_of(value) for value in self.specials if value)])

    @property
    def levels(self) -> tuple[int, ...]:
        """The special values in units of 2^lsb."""
        return tuple(int(math.ldexp(value, -self.lsb)) for value in self.specials)

    @cached_property
    def significand_width(self) -> int:
        """Bits of the significand, its sign included."""
        return max(self._own[1] + self.own_lsb - self.lsb, _signed_width(0, *self.levels))
