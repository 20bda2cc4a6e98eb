"""Number formats as data: what a stored element is, in bits."""

from dataclasses import dataclass

from hw.errors import ConfigError

__all__ = ["BF16", "FORMATS", "FP16", "FP32", "FloatFormat", "Format", "format_named"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One element format.

    Attributes
    ----------
    name : str
        As `ml_dtypes` names it.
    bits : int
        Stored bits per element.
    signed : bool
        Two's complement when true.
    doc : str
        One line for tables.
    """

    name: str
    bits: int
    signed: bool
    doc: str

    @property
    def minimum(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest value."""
        return (1 << (self.bits - self.signed)) - 1


FORMATS: dict[str, Format] = {
    fmt.name: fmt
    for fmt in (
        Format(name="int8", bits=8, signed=True, doc="8-bit two's complement integer"),
        Format(name="int4", bits=4, signed=True, doc="4-bit two's complement integer, two to a byte"),
    )
}


def format_named(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text lists those that exist.
    """
    if name not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatFormat:
    """A binary floating-point layout as in IEEE 754: sign, biased exponent, fraction; the top exponent is Inf and NaN.

    Attributes
    ----------
    name : str
        As numpy or `ml_dtypes` names it.
    exponent_bits : int
        2 to 11.
    mantissa_bits : int
        Stored bits of the fraction, 2 to 52; the leading one is not stored.

    Raises
    ------
    ConfigError
        If a width is out of its range.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int

    def __post_init__(self) -> None:
        """Check the widths."""
        for field, low, high in (("exponent_bits", 2, 11), ("mantissa_bits", 2, 52)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"FloatFormat.{field} must be an integer between {low} and {high}, not {value!r}")

    @property
    def bits(self) -> int:
        """Stored bits of a value."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is added to the exponent of a normal value before it is stored."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def exponent_max(self) -> int:
        """The stored exponent of Inf and NaN."""
        return (1 << self.exponent_bits) - 1


FP32 = FloatFormat(name="float32", exponent_bits=8, mantissa_bits=23)
FP16 = FloatFormat(name="float16", exponent_bits=5, mantissa_bits=10)
BF16 = FloatFormat(name="bfloat16", exponent_bits=8, mantissa_bits=7)
