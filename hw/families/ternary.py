"""Structured ternary weights (Sherry)."""

from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["TernaryFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TernaryFormat(Format):
    """Sherry: of four weights the smallest is 0 and the others are ±scale, in five bits.

    Attributes
    ----------
    lanes : str
        "strided": weight p of quad g is (g / 16)·64 + g mod 16 + 16 p of the block (STQ1_0); "contiguous": 4 g + p.
    """

    lanes: str

    def __post_init__(self) -> None:
        """Check that quads fill the block."""
        Format.__post_init__(self)
        if self.lanes not in ("strided", "contiguous"):
            raise ConfigError(f"TernaryFormat.lanes must be 'strided' or 'contiguous', not {self.lanes!r}")
        multiple = 64 if self.lanes == "strided" else 4
        if self.block < 1 or self.block % multiple:
            raise ConfigError(f"TernaryFormat.block must be a positive multiple of {multiple} with {self.lanes} lanes, "
                              f"not {self.block}")

    @property
    def word(self) -> PackedWord:
        """Slots, signs, scale: the order of a STQ1_0 block."""
        quads = self.block // 4
        return PackedWord((
            PackedField(name="slots", width=4, count=quads, doc="zero_pos << 2 | (s3 ^ s1) << 1 | (s2 ^ s1)"),
            PackedField(name="signs", width=1, count=quads, doc="sign s1 of the first weight that is not 0"),
            PackedField(name="scale", width=16, doc="float16")))
