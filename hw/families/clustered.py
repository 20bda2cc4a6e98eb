"""Codes into a table fitted to the data (KVQuant)."""

import math
from dataclasses import dataclass

from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["ClusteredFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusteredFormat(Format):
    """KVQuant: codes into a table fitted to the data, normalized for each vector (a block); the extremes apart as float16.

    Attributes
    ----------
    code_bits : int
        Bits of a code, 1 to 8.
    outlier_fraction : float
        Values of a block stored apart, both tails together; each tail is rounded up to whole values.
    """

    code_bits: int
    outlier_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Check what varies."""
        Format.__post_init__(self)
        if self.block == 0:
            raise ConfigError("ClusteredFormat.block must be at least 1, not 0")
        if not isinstance(self.code_bits, int) or not 1 <= self.code_bits <= 8:
            raise ConfigError(f"ClusteredFormat.code_bits must be an integer between 1 and 8, not {self.code_bits!r}")
        if not 0.0 <= self.outlier_fraction <= 0.5:
            raise ConfigError(f"ClusteredFormat.outlier_fraction must be between 0 and 0.5, not {self.outlier_fraction!r}")

    @property
    def tail(self) -> int:
        """Values of a block stored apart in each tail: ⌈fraction / 2 · block⌉, but at least one is left between the tails."""
        return min(math.ceil(self.outlier_fraction / 2 * self.block), (self.block - 1) // 2)

    @property
    def word(self) -> PackedWord:
        """Codes, what brings a vector to [−1, 1], and the values stored apart, each with its place."""
        fields = [
            PackedField(name="codes", width=self.code_bits, count=self.block, doc="index into the table of the tensor"),
            PackedField(name="half_range", width=16, doc="float16: half the distance of the limits of the vector"),
            PackedField(name="middle", width=16, doc="float16: middle of the limits of the vector")]
        if self.tail:
            fields += [
                PackedField(name="outlier_position", width=(self.block - 1).bit_length(), count=2 * self.tail,
                            doc="place in the block of a value stored apart, strictly increasing"),
                PackedField(name="outlier_value", width=16, count=2 * self.tail, doc="float16: that value")]
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Table of the tensor."""
        return ("table",)
