"""Sums of structured sparse terms (TASD)."""

from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["SeriesFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesFormat(Format):
    """TASD: int8 (one float32 scale a row) as a sum of N:M structured terms, extracted greedily.

    Attributes
    ----------
    terms : tuple of (int, int)
        (N, M) of each term, in order of extraction; every M divides `block`.
    """

    terms: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check that every term is a pattern, and that the block is whole groups of it."""
        Format.__post_init__(self)
        if not self.terms:
            raise ConfigError("SeriesFormat.terms must be at least one (N, M), not ()")
        for keep, of in self.terms:
            if of < 2 or not 1 <= keep <= of or self.block % of:
                raise ConfigError(f"a term N:M of SeriesFormat must have 1 ≤ N ≤ M and M at least 2 and a divisor of the block "
                                  f"({self.block}), not {keep}:{of}")

    @property
    def word(self) -> PackedWord:
        """Values and coordinates of every term."""
        fields = []
        for index, (keep, of) in enumerate(self.terms):
            count = self.block // of * keep
            fields += [
                PackedField(name=f"values{index}", width=8, count=count, doc=f"int8 of term {keep}:{of}; unused slots are 0"),
                PackedField(name=f"inner{index}", width=(of - 1).bit_length(), count=count,
                            doc="which value of its group, strictly increasing in the group")]
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)
