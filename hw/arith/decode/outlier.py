"""Blocks of sparse decomposed quantization (SDQ) → outlier and inlier lanes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.element import ElementDecoder
from hw.arith.decode.form import ElementForm
from hw.arith.decode.packed import packed_layout
from hw.arith.decode.scatter import scatter, slots
from hw.families import OutlierFormat

__all__ = ["OutlierDecoder"]


class OutlierDecoder(wiring.Component):
    """Block of outliers and inliers → lanes of either kind, zero where a value is not of it. Combinational.

    The k-th set bit of a group's mask takes the k-th inlier of the group. Inliers are wired only to lanes where a legal mask can
    bring them, as outliers are (see `scatter`): lane i of m takes inliers i − (m − n) to i of n. Where an illegal mask asks for
    another, the lane is zero. The two scales are fields of `word`, for whoever multiplies.

    Parameters
    ----------
    fmt : OutlierFormat
        Of inliers that are floats.

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
    outliers : Out(array of `fmt.block` signed(8))
    inliers : Out(array of `fmt.block` signed)
        In multiples of 2^`inlier_lsb`: signed(5) in halves for FP4, so that products of inliers are integers.

    Attributes
    ----------
    inlier_lsb : int
        −1 for FP4.

    Reference
    ---------
    Jeong et al., SDQ, arXiv 2406.13868.
    """

    def __init__(self, fmt: OutlierFormat):
        self._fmt = fmt
        form = ElementForm(element=fmt.element, fixed=True)
        self.inlier_lsb = form.lsb
        super().__init__({
            "word": In(packed_layout(fmt.word)),
            "outliers": Out(data.ArrayLayout(signed(8), fmt.block)),
            "inliers": Out(data.ArrayLayout(signed(form.significand_width), fmt.block)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        groups = fmt.block // fmt.group
        values = slots(self.word.outliers, groups * fmt.outliers)
        places = slots(self.word.outlier_inner, groups * fmt.outliers)
        codes = slots(self.word.inliers, groups * fmt.inliers)
        masks = slots(self.word.inlier_mask, groups)
        lanes: list[Value] = []
        for group in range(groups):
            own = slice(group * fmt.outliers, (group + 1) * fmt.outliers)
            lanes += scatter(values[own], places[own], fmt.group)
            inliers: list[Value] = []
            for index, code in enumerate(codes[group * fmt.inliers:(group + 1) * fmt.inliers]):
                m.submodules[f"inlier_{group}_{index}"] = element = ElementDecoder(fmt.element, fixed=True)
                m.d.comb += element.code.eq(code)
                inliers.append(element.significand)
            self._spread(m, masks[group], inliers, group)
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
