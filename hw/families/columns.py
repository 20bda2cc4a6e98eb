"""Formats without some bit columns (BBS)."""

from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["ColumnFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFormat(Format):
    """BBS: int8 weights (one float32 scale a row) whose low bit columns are replaced by a constant of the group.

    Attributes
    ----------
    pruned : int
        Columns not stored, redundant ones below the sign included: 1 to 6.
    method : str
        "average" (rounded averaging of the low columns) or "shift" (zero-point shifting).
    constant_bits : int
        Bits of the constant: 1 to 6, with "average" as many as are pruned or more.
    one_of : int
        One of so many channels keeps all eight columns: 2, 4 or 8; 1: none. Which channels stand together depends on the engine,
        which packs them.
    """

    pruned: int
    method: str
    constant_bits: int = 6
    one_of: int = 1

    def __post_init__(self) -> None:
        """Check the sizes: a column is one field, and what is pruned must leave a sign and a bit."""
        Format.__post_init__(self)
        for field, low, high in (("block", 1, 32), ("pruned", 1, 6), ("constant_bits", 1, 6)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"ColumnFormat.{field} must be an integer between {low} and {high}, not {value!r}")
        if self.one_of not in (1, 2, 4, 8):
            raise ConfigError(f"ColumnFormat.one_of must be 1, 2, 4 or 8, not {self.one_of!r}")
        if self.method not in ("average", "shift"):
            raise ConfigError(f"ColumnFormat.method must be 'average' or 'shift', not {self.method!r}")
        if self.method == "average" and self.constant_bits < self.pruned:
            raise ConfigError(f"ColumnFormat.constant_bits must be at least {self.pruned} (the columns that the mean replaces), "
                              f"not {self.constant_bits}")

    @property
    def word(self) -> PackedWord:
        """Stored bit columns, highest significance first; redundant columns; constant."""
        return PackedWord((
            PackedField(name="columns", width=self.block, count=8 - self.pruned,
                        doc="bit columns, the most significant first; bit i of a column is of weight i"),
            PackedField(name="redundant", width=2, doc="columns below the sign that repeat it and are not stored"),
            PackedField(name="constant", width=self.constant_bits,
                        doc="value of the low columns (average: unsigned; shift: two's complement, to be subtracted)")))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)
