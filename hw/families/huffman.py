"""Huffman-coded exponents (DFloat11)."""

from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["HuffmanFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HuffmanFormat(Format):
    """DFloat11: bfloat16 without loss; exponents Huffman coded, sign and fraction as they are.

    Attributes
    ----------
    longest : int
        Longest code in bits, 8 to 32.
    chunk : int
        Values of a row, 1 to 65535, whose codes lie together from a byte boundary on, so that chunks can be decoded in parallel.
    """

    longest: int = 32
    chunk: int = 512

    def __post_init__(self) -> None:
        """Check what varies."""
        Format.__post_init__(self)
        for field, low, high in (("block", 0, 0), ("longest", 8, 32), ("chunk", 1, (1 << 16) - 1)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                rule = f"an integer between {low} and {high}" if high else "0"
                raise ConfigError(f"HuffmanFormat.{field} must be {rule}, not {value!r}")

    @property
    def word(self) -> PackedWord:
        """Sign and fraction; the coded exponents lie beside them, of a size that the data decides."""
        return PackedWord((PackedField(name="sign_mantissa", width=8, doc="sign << 7 | fraction"),))

    @property
    def side(self) -> tuple[str, ...]:
        """Code lengths, coded exponents, and where each chunk starts."""
        return ("lengths", "stream", "starts")

    @property
    def takes_nonfinite(self) -> bool:
        """All of bfloat16."""
        return True
