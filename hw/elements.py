"""Elements as data: what the code of one stored number means.

A code is the unsigned integer that its bits spell. Every element knows its bits and the value of every code; formats
(`hw.formats`) put elements into blocks with scales.
"""

import abc
import enum
import functools
import math
from dataclasses import dataclass

from hw.errors import ConfigError

__all__ = ["BF16", "ELEMENTS", "FP16", "FP32", "Codebook", "Element", "FloatFormat", "Integer", "Specials"]


class Element(abc.ABC):
    """What all elements share: a name, a width, and a value for each code.

    Attributes
    ----------
    name : str
        As numpy or `ml_dtypes` names it, where they know it.
    doc : str
        One line for tables.
    """

    __slots__ = ()
    name: str
    doc: str

    @property
    @abc.abstractmethod
    def bits(self) -> int:
        """Stored bits of a code."""

    @abc.abstractmethod
    def value(self, code: int) -> float:
        """Return what `code` stands for: exact in float64; NaN and infinities included."""

    @property
    def values(self) -> tuple[float, ...]:
        """Value of every code, in order of the codes; for elements of up to 16 bits."""
        return _values(self)

    @property
    def limits(self) -> tuple[float, float]:
        """Most negative and largest finite value; for elements of up to 16 bits."""
        return _limits(self)


@functools.cache
def _values(element: Element) -> tuple[float, ...]:
    if element.bits > 16:
        raise ConfigError(f"a code table must be of at most 16 bits, not of {element.name} ({element.bits} bits)")
    return tuple(element.value(code) for code in range(1 << element.bits))


@functools.cache
def _limits(element: Element) -> tuple[float, float]:
    finite = [value for value in _values(element) if math.isfinite(value)]
    return min(finite), max(finite)


@dataclass(frozen=True, kw_only=True, slots=True)
class Integer(Element):
    """A binary integer, or fixed point.

    Attributes
    ----------
    width : int
        Stored bits.
    signed : bool
        Two's complement when true.
    fraction_bits : int
        The value is the integer times 2^−fraction_bits.
    """

    name: str
    width: int
    signed: bool = True
    fraction_bits: int = 0
    doc: str

    @property
    def bits(self) -> int:
        """Stored bits of a code."""
        return self.width

    @property
    def minimum(self) -> int:
        """Smallest code as an integer, the fraction point aside."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest code as an integer, the fraction point aside."""
        return (1 << (self.width - self.signed)) - 1

    def value(self, code: int) -> float:
        """Return what `code` stands for."""
        if self.signed and code >> (self.width - 1):
            code -= 1 << self.width
        return math.ldexp(code, -self.fraction_bits)


class Specials(enum.Enum):
    """What the top exponent of a `FloatFormat` is for."""

    IEEE = "the top exponent is Inf and NaN"
    NAN = "the code of all ones is NaN, every other finite"
    NONE = "every code is finite"


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatFormat(Element):
    """A binary floating-point layout: sign, biased exponent, fraction, from the top bit down.

    Attributes
    ----------
    exponent_bits : int
        1 to 11.
    mantissa_bits : int
        Stored bits of the fraction, 0 to 52; the leading one is not stored.
    signed : bool
        Whether there is a sign bit.
    specials : Specials
    subnormals : bool
        Exponent 0 has no leading one, so that its fraction 0 is zero; without, exponent 0 is like any other and there is no zero.
    bias_offset : int
        Added to the bias of IEEE 754, 2^(exponent_bits−1) − 1.

    Raises
    ------
    ConfigError
        If a width is out of its range.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    signed: bool = True
    specials: Specials = Specials.IEEE
    subnormals: bool = True
    bias_offset: int = 0
    doc: str = ""

    def __post_init__(self) -> None:
        """Check the widths."""
        for field, low, high in (("exponent_bits", 1, 11), ("mantissa_bits", 0, 52)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"FloatFormat.{field} must be an integer between {low} and {high}, not {value!r}")
        if self.specials is Specials.IEEE and self.mantissa_bits == 0:
            raise ConfigError("FloatFormat.mantissa_bits must be at least 1 with IEEE specials, not 0: NaN needs a fraction")

    @property
    def bits(self) -> int:
        """Stored bits of a code."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is added to the exponent of a normal value before it is stored."""
        return (1 << (self.exponent_bits - 1)) - 1 + self.bias_offset

    @property
    def exponent_max(self) -> int:
        """The largest stored exponent; with IEEE specials, that of Inf and NaN."""
        return (1 << self.exponent_bits) - 1

    def value(self, code: int) -> float:
        """Return what `code` stands for."""
        mantissa = code & ((1 << self.mantissa_bits) - 1)
        exponent = code >> self.mantissa_bits & self.exponent_max
        sign = -1.0 if self.signed and code >> (self.bits - 1) else 1.0
        if self.specials is Specials.IEEE and exponent == self.exponent_max:
            return math.nan if mantissa else sign * math.inf
        magnitude_bits = self.exponent_bits + self.mantissa_bits
        if self.specials is Specials.NAN and code & ((1 << magnitude_bits) - 1) == (1 << magnitude_bits) - 1:
            return math.nan
        leading = exponent > 0 or not self.subnormals
        significand = mantissa + (leading << self.mantissa_bits)
        return sign * math.ldexp(significand, (exponent if leading else 1) - self.bias - self.mantissa_bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Codebook(Element):
    """A table: code i stands for `levels[i]`.

    Attributes
    ----------
    levels : tuple of float
        A power of two of them, each exact in float32.
    """

    name: str
    levels: tuple[float, ...]
    doc: str

    @property
    def bits(self) -> int:
        """Stored bits of a code."""
        return (len(self.levels) - 1).bit_length()

    def value(self, code: int) -> float:
        """Return what `code` stands for."""
        return self.levels[code]


FP32 = FloatFormat(name="float32", exponent_bits=8, mantissa_bits=23, doc="IEEE 754 binary32")
FP16 = FloatFormat(name="float16", exponent_bits=5, mantissa_bits=10, doc="IEEE 754 binary16")
BF16 = FloatFormat(name="bfloat16", exponent_bits=8, mantissa_bits=7, doc="float32 with the lower half cut off")


def _float32(*levels: float) -> tuple[float, ...]:
    """Return decimal literals as the float32 values nearest to them."""
    import struct

    return struct.unpack(f"<{len(levels)}f", struct.pack(f"<{len(levels)}f", *levels))


_NF4 = _float32(
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
_SF4 = _float32(
    -1.0, -0.627781, -0.454736, -0.334331, -0.237434, -0.152899, -0.074982, 0.0, 0.065513, 0.132965, 0.204661, 0.283835, 0.375805,
    0.491076, 0.656781, 1.0)

ELEMENTS: dict[str, Element] = {
    element.name: element
    for element in (
        *(Integer(name=f"int{bits}", width=bits, doc=f"{bits}-bit two's complement integer")
          for bits in (8, 4, 2, 3, 5, 6, 7, 16)),
        *(Integer(name=f"uint{bits}", width=bits, signed=False, doc=f"{bits}-bit unsigned integer")
          for bits in (2, 3, 4, 5, 6, 7, 8, 16)),
        Integer(name="mxint8", width=8, fraction_bits=6, doc="two's complement with 6 fraction bits (OCP MX INT8)"),
        Integer(name="mxint4", width=4, fraction_bits=2, doc="two's complement with 2 fraction bits"),
        FP32, FP16, BF16,
        FloatFormat(name="float8_e5m2", exponent_bits=5, mantissa_bits=2, doc="OCP FP8 with infinities"),
        FloatFormat(name="float8_e4m3fn", exponent_bits=4, mantissa_bits=3, specials=Specials.NAN,
                    doc="OCP FP8 without infinities, largest 448"),
        FloatFormat(name="float6_e3m2fn", exponent_bits=3, mantissa_bits=2, specials=Specials.NONE, doc="OCP FP6, largest 28"),
        FloatFormat(name="float6_e2m3fn", exponent_bits=2, mantissa_bits=3, specials=Specials.NONE, doc="OCP FP6, largest 7.5"),
        FloatFormat(name="float4_e2m1fn", exponent_bits=2, mantissa_bits=1, specials=Specials.NONE, doc="OCP FP4, largest 6"),
        FloatFormat(name="float3_e2m0", exponent_bits=2, mantissa_bits=0, specials=Specials.NONE, doc="0, ±1, ±2, ±4"),
        FloatFormat(name="float8_e8m0fnu", exponent_bits=8, mantissa_bits=0, signed=False, specials=Specials.NAN,
                    subnormals=False, doc="a power of two, 2^−127 to 2^127, or NaN (OCP MX scale)"),
        FloatFormat(name="float7_e4m3u", exponent_bits=4, mantissa_bits=3, signed=False, specials=Specials.NAN,
                    doc="E4M3 without its sign"),
        FloatFormat(name="float6_e3m3u", exponent_bits=3, mantissa_bits=3, signed=False, specials=Specials.NONE,
                    doc="unsigned, largest 30 (RaZeR scale)"),
        FloatFormat(name="float8_s0e4m4", exponent_bits=4, mantissa_bits=4, signed=False, specials=Specials.NONE, bias_offset=8,
                    doc="unsigned, 0xF0 is 1 (P3-LLM probabilities)"),
        Codebook(name="nf4", levels=_NF4, doc="normal-quantile levels, index sorted"),
        Codebook(name="sf4", levels=_SF4, doc="Student-t quantile levels (5 degrees of freedom), index sorted"),
    )
}
