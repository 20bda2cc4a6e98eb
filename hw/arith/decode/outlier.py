"""Blocks of sparse decomposed quantization (SDQ) → outlier and inlier lanes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.packed import packed_layout
from hw.arith.decode.scatter import scatter, slots
from hw.elements import Element
from hw.families import OutlierFormat

__all__ = ["OutlierDecoder"]


def _in_units(element: Element) -> tuple[float, tuple[int, ...]]:
    """Return the smallest positive value of `element`, and all values in multiples of it, by code."""
    unit = min(value for value in element.values if value > 0)
    return unit, tuple(int(value / unit) for value in element.values)


class OutlierDecoder(wiring.Component):
    """Block of outliers and inliers → lanes of either kind, zero where a value is not of it. Combinational.

    The k-th set bit of a group's mask takes the k-th inlier of the group. As places of outliers are (see `scatter`), so are
    inliers wired only where a legal mask can bring them: in a mask with too many bits or too few, lanes beyond are zero. The two
    scales are fields of `word`, for whoever multiplies.

    Parameters
    ----------
    fmt : OutlierFormat

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
    outliers : Out(array of `fmt.block` signed(8))
    inliers : Out(array of `fmt.block` signed)
        In multiples of `inlier_unit`: signed(5) in halves for FP4, so that products of inliers are integers.

    Attributes
    ----------
    inlier_unit : float
        The smallest positive value of an inlier's element.

    Reference
    ---------
    Jeong et al., SDQ, arXiv 2406.13868.
    """

    def __init__(self, fmt: OutlierFormat):
        self._fmt = fmt
        self.inlier_unit, self._table = _in_units(fmt.element)
        width = max(value.bit_length() for value in self._table) + 1
        super().__init__({
            "word": In(packed_layout(fmt.word)),
            "outliers": Out(data.ArrayLayout(signed(8), fmt.block)),
            "inliers": Out(data.ArrayLayout(signed(width), fmt.block)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        groups = fmt.block // fmt.group
        values = slots(self.word.outliers, groups * fmt.outliers)
        places = slots(self.word.outlier_inner, groups * fmt.outliers)
        codes = slots(self.word.inliers, groups * fmt.inliers)
        masks = slots(self.word.inlier_mask, groups)
        table = Array(Const(value, self.inliers[0].shape()) for value in self._table)
        lanes: list[Value] = []
        for group in range(groups):
            own = slice(group * fmt.outliers, (group + 1) * fmt.outliers)
            lanes += scatter(values[own], places[own], fmt.group)
            decoded = []
            for index, code in enumerate(codes[group * fmt.inliers:(group + 1) * fmt.inliers]):
                decoded.append(inlier := Signal(self.inliers[0].shape(), name=f"inlier_{group}_{index}"))
                m.d.comb += inlier.eq(table[code])
            self._spread(m, masks[group], decoded, group)
        m.d.comb += self.outliers.as_value().eq(Cat(*lanes))
        return m

    def _spread(self, m: Module, mask: Value, inliers: list[Value], group: int) -> None:
        """Give the inliers of a group to the lanes that its mask names."""
        spare = self._fmt.group - len(inliers)
        before: Value = C(0)                                # bits set below this lane
        for place in range(self._fmt.group):
            lane = self.inliers[group * self._fmt.group + place]
            first, last = max(0, place - spare), min(place, len(inliers) - 1)
            with m.If(mask[place]):
                with m.Switch(before):
                    for rank in range(first, last + 1):
                        with m.Case(rank):
                            m.d.comb += lane.eq(inliers[rank])
            count = Signal(range(place + 2), name=f"count_{group}_{place + 1}")
            m.d.comb += count.eq(before + mask[place])
            before = count
