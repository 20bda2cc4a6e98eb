"""Outliers and inliers in different elements (SDQ)."""

from dataclasses import dataclass

from hw.elements import Element
from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["OutlierFormat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierFormat(Format):
    """SDQ: in every group of `group` values the largest ones as int8 outliers, the next ones as FP4 inliers, the rest zero.

    Attributes
    ----------
    group : int
        M of both patterns.
    outliers, inliers : int
        Values of each kind in a group.
    element : Element
        Of an inlier.
    """

    group: int
    outliers: int
    inliers: int
    element: Element

    def __post_init__(self) -> None:
        """Check that both kinds fit a group, and groups the block."""
        Format.__post_init__(self)
        if not 2 <= self.group <= 32 or self.block % self.group or not self.block:
            raise ConfigError(f"OutlierFormat.group must be between 2 and 32 and divide the block ({self.block}), "
                              f"not {self.group!r}")
        if self.outliers < 1 or self.inliers < 1 or self.outliers + self.inliers > self.group:
            raise ConfigError(f"OutlierFormat.outliers and inliers must each be at least 1 and together at most {self.group} "
                              f"(group), not {self.outliers!r} and {self.inliers!r}")

    @property
    def word(self) -> PackedWord:
        """Outlier values and places, inlier codes and mask, and the two scales of the block."""
        groups = self.block // self.group
        return PackedWord((
            PackedField(name="outliers", width=8, count=groups * self.outliers, doc="int8; unused slots are 0"),
            PackedField(name="outlier_inner", width=(self.group - 1).bit_length(), count=groups * self.outliers,
                        doc="place in the group, strictly increasing"),
            PackedField(name="inliers", width=self.element.bits, count=groups * self.inliers, doc=self.element.doc),
            PackedField(name="inlier_mask", width=self.group, count=groups, doc="bit i: value i of the group is an inlier"),
            PackedField(name="outlier_scale", width=16, doc="scale of the outliers: float16"),
            PackedField(name="inlier_scale", width=16, doc="scale of the inliers: float16")))
