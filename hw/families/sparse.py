"""Structured sparsity: N:M patterns and hierarchies of them (HighLight)."""

from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["SparseFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseFormat(Format):
    """Hierarchical structured sparsity over int8 (one float32 scale a row): G1:H1 blocks, G0:H0 values in each.

    A plain N:M pattern is one block (G1:H1 = `blocks`:`blocks`) of `blocks` groups: 1 ≤ N ≤ M.

    Attributes
    ----------
    outer_keep, outer_of : int
        G1 of H1 consecutive blocks are kept.
    inner_keep, inner_of : int
        G0 of H0 consecutive values of a kept block are kept.
    outer_bits, inner_bits : int
        Width of a block coordinate (0: every block is kept, no coordinate) and of a value coordinate.
    """

    outer_keep: int
    outer_of: int
    inner_keep: int
    inner_of: int
    outer_bits: int
    inner_bits: int

    def __post_init__(self) -> None:
        """Check that the pattern fits its block, and the coordinates their bits."""
        Format.__post_init__(self)
        for rank in ("outer", "inner"):
            keep, of, bits = (getattr(self, f"{rank}_{part}") for part in ("keep", "of", "bits"))
            if of < 1:
                raise ConfigError(f"SparseFormat.{rank}_of must be at least 1, not {of!r}")
            if not 1 <= keep <= of:
                raise ConfigError(f"SparseFormat.{rank}_keep must be between 1 and {of} ({rank}_of), not {keep!r}")
            needed = 0 if rank == "outer" and keep == of and not bits else max(1, (of - 1).bit_length())
            if bits < needed:
                raise ConfigError(f"SparseFormat.{rank}_bits must be at least {needed}, not {bits!r}: it counts to {of - 1}")
        if self.block != self.outer_of * self.inner_of:
            raise ConfigError(f"SparseFormat.block must be outer_of·inner_of = {self.outer_of * self.inner_of}, not {self.block}")

    @property
    def word(self) -> PackedWord:
        """Values in order of (block, element), block coordinates, element coordinates."""
        kept = self.outer_keep * self.inner_keep
        fields = [PackedField(name="values", width=8, count=kept, doc="int8, in order of position; unused slots are 0")]
        if self.outer_bits:
            fields.append(PackedField(name="outer", width=self.outer_bits, count=self.outer_keep,
                                      doc="which block, strictly increasing"))
        fields.append(PackedField(name="inner", width=self.inner_bits, count=kept,
                                  doc="which value of its block, strictly increasing in the block"))
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)
