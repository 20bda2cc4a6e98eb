"""Widths of a BitMoD PE: what follows from its activations, its weights' precisions and its group size."""

from dataclasses import dataclass

from amaranth.lib import data

from hw.config import ceil_log2
from hw.elements import FP16, Element, FloatFormat, Integer, Specials
from hw.errors import ConfigError
from hw.pe.bitmod.precision import LANES, PRECISIONS, SIGNIFICANCES, WeightPrecision

__all__ = ["GUARD_BITS", "SCALE_BITS", "BitmodShape"]

GUARD_BITS = 3
"""Bits below the last place of a significand that an aligned lane keeps."""
SCALE_BITS = 8
"""Bits of a group scale, and so cycles of its multiplication."""

_LARGEST_SHIFT = 3      # of a term
_LARGEST_INTEGER, _LARGEST_HALVES = 128, 24     # magnitudes of weights: two's complement of 8 bits; two ones in five bits


@dataclass(frozen=True, kw_only=True)
class BitmodShape:
    """What decides the RTL of one PE.

    Attributes
    ----------
    activation : Element
        A float with a sign, subnormal values and infinities (float16, bfloat16), or a signed integer (int8).
    precisions : tuple of str
        Weight precisions that the PE must be wide enough for, keys of `PRECISIONS`.
    group : int
        Most weights that one group scale multiplies, a multiple of 4, at least 16.

    Raises
    ------
    ConfigError
        If one of them is impossible.
    """

    activation: Element = FP16
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    group: int = 128

    def __post_init__(self) -> None:
        """Check the parameters."""
        element = self.activation
        is_float = isinstance(element, FloatFormat) and element.signed and element.subnormals \
            and element.specials is Specials.IEEE and element.exponent_bits <= 8
        is_integer = isinstance(element, Integer) and element.signed and not element.fraction_bits and element.width >= 2
        if not is_float and not is_integer:
            raise ConfigError("BitmodShape.activation must be a float of IEEE 754 with up to 8 exponent bits, or a signed "
                              f"integer, not {element.name!r}")
        if not self.precisions or any(name not in PRECISIONS for name in self.precisions):
            raise ConfigError(f"BitmodShape.precisions must be a non-empty choice of {', '.join(PRECISIONS)}, "
                              f"not {self.precisions!r}")
        if self.group % LANES or not 16 <= self.group <= 4096:
            raise ConfigError(f"BitmodShape.group must be a multiple of {LANES} between 16 (whose scale takes as long as the "
                              f"next group) and 4096, not {self.group!r}")

    @property
    def is_float(self) -> bool:
        """Whether activations have an exponent."""
        return isinstance(self.activation, FloatFormat)

    @property
    def significand_width(self) -> int:
        """Bits of an activation's significand with its leading one (floats), or of an activation (integers)."""
        return self.activation.mantissa_bits + 1 if isinstance(self.activation, FloatFormat) else self.activation.bits

    @property
    def exponent_width(self) -> int:
        """Bits of the sum of the exponents of activation and term; 0 for integers."""
        element = self.activation
        return (element.exponent_max - 1 + _LARGEST_SHIFT).bit_length() if isinstance(element, FloatFormat) else 0

    @property
    def activation_layout(self) -> data.StructLayout:
        """What a lane gets (`ActivationUnpack`): an integer as it is, or the parts of a float."""
        if not isinstance(self.activation, FloatFormat):
            return data.StructLayout({"integer": self.significand_width})
        return data.StructLayout({"significand": self.significand_width, "exponent": self.activation.exponent_bits, "sign": 1,
                                  "nonzero": 1})

    @property
    def lane_width(self) -> int:
        """Bits of a lane's magnitude before the lanes are added."""
        return self.significand_width + (GUARD_BITS if self.is_float else _LARGEST_SHIFT)

    @property
    def sum_width(self) -> int:
        """Bits of the sum of the lanes, two's complement."""
        return self.lane_width + 1 + ceil_log2(LANES)

    @property
    def acc_width(self) -> int:
        """Bits of the accumulator, two's complement: no sum of a group overflows.

        Of float activations a term of significance b adds at most 2^b · (2^p − 1) · 2^GUARD_BITS, whatever it was aligned to. Of
        integer ones every sum over the first terms of a weight is at most as large as the largest weight.
        """
        bound = 0
        for name in self.precisions:
            precision = PRECISIONS[name]
            if self.is_float:
                worth = sum(1 << significance for significance in SIGNIFICANCES[precision])
                each = worth * ((1 << self.significand_width) - 1 << GUARD_BITS)
            else:
                halves = precision in (WeightPrecision.FP4, WeightPrecision.FP3)
                each = (_LARGEST_HALVES if halves else _LARGEST_INTEGER) << self.significand_width - 1
            bound = max(bound, each * self.group)
        return bound.bit_length() + 1

    @property
    def product_width(self) -> int:
        """Bits of a group's sum times its scale, two's complement."""
        return self.acc_width + SCALE_BITS

    @property
    def lsb(self) -> int:
        """Weight of bit 0 of a sum with integer weights where its exponent is 0, as a power of two; of FP4 and FP3 one less."""
        element = self.activation
        return -element.bias - element.mantissa_bits - GUARD_BITS if isinstance(element, FloatFormat) else 0

    @property
    def suffix(self) -> str:
        """Parameters in a form that fits into a module name."""
        return f"{self.activation.name}_acc{self.acc_width}"
