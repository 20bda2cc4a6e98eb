"""Number formats as data: what a stored element is, in bits."""

from dataclasses import dataclass

__all__ = ["FORMATS", "Format", "format_named"]

from hw.errors import ConfigError


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
