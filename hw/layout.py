"""Field tables of packed words: which bits of a stored block mean what.

A packed word is a row of fields, the first from bit 0 up; a field may repeat, its first element lowest. A stored word is padded
with zeros to whole bytes and lies little-endian, so that bit i is bit i mod 8 of byte i / 8. The packer (`sw.packing`) and the
hardware decoders (`hw.arith.decode`) read the same table.
"""

from dataclasses import dataclass

from hw.errors import ConfigError

__all__ = ["PackedField", "PackedWord"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedField:
    """One field of a packed word.

    Attributes
    ----------
    name : str
    width : int
        Bits of an element, 1 to 32.
    count : int
        Elements, consecutive.
    doc : str
        One line for tables.
    """

    name: str
    width: int
    count: int = 1
    doc: str

    def __post_init__(self) -> None:
        """Check the sizes."""
        for field, low, high in (("width", 1, 32), ("count", 1, 1 << 16)):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(f"PackedField.{field} must be between {low} and {high}, not {value!r}")

    @property
    def bits(self) -> int:
        """Bits of all elements."""
        return self.width * self.count


@dataclass(frozen=True, slots=True)
class PackedWord:
    """The fields of one stored word, from bit 0 up."""

    fields: tuple[PackedField, ...]

    @property
    def bits(self) -> int:
        """Bits that mean something."""
        return sum(field.bits for field in self.fields)

    @property
    def bytes(self) -> int:
        """Bytes of a stored word: the bits, padded to whole bytes."""
        return -(-self.bits // 8)

    @property
    def offsets(self) -> dict[str, int]:
        """Lowest bit of each field."""
        found, low = {}, 0
        for field in self.fields:
            found[field.name] = low
            low += field.bits
        return found
