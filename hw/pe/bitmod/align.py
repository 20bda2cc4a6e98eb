"""Exponent alignment of four lanes and of the sum that they are added to."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.rounding import at_most
from hw.pe.bitmod.precision import LANES, term_layout
from hw.pe.bitmod.shape import BitmodShape

__all__ = ["ExponentAlign", "acc_shift_width", "lane_shift_width"]


def lane_shift_width(shape: BitmodShape) -> int:
    """Return the bits of a lane's shift: one place more than there are bits leaves less than a half of any significand."""
    return (shape.lane_width + 1).bit_length()


def acc_shift_width(shape: BitmodShape) -> int:
    """Return the bits of the sum's shift, by the same rule."""
    return (shape.acc_width + 1).bit_length()


class ExponentAlign(wiring.Component):
    """Exponent alignment: the exponent that a group's sum has so far, and how far lanes and sum must be shifted to it.

    A lane's exponent is that of its activation plus that of its term. The group's exponent is the largest of any lane so far;
    it only rises, so that it is a loop of one cycle of its own, which no normalization closes. Lanes whose product is zero do
    not count. The shifts are combinational.

    Parameters
    ----------
    shape : BitmodShape
        Of float activations.

    Members
    -------
    valid, first : In(1)
        There is a step in this cycle; it is the first of its group.
    activations : In(4 × `shape.activation_layout`), terms : In(4 × `term_layout`)
    exponent : Out(exponent_width)
        The group's, one cycle after the step, which it includes; 0 where all has been zero.
    lane_shift : Out(4 × lane_shift_width), acc_shift : Out(acc_shift_width)
        Right shifts; larger ones, which leave nothing, as the largest that counts. The latter means nothing in a first step.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Fig. 5: maximum of the lanes' exponents and the sum's. Differs: the sum is not normalized
    within a group (the paper normalizes it in each step), but wide enough.
    """

    def __init__(self, shape: BitmodShape):
        self._shape = shape
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "activations": In(data.ArrayLayout(shape.activation_layout, LANES)),
            "terms": In(data.ArrayLayout(term_layout, LANES)),
            "exponent": Out(shape.exponent_width),
            "lane_shift": Out(data.ArrayLayout(lane_shift_width(shape), LANES)),
            "acc_shift": Out(acc_shift_width(shape)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self._shape
        group_exponent = Signal(shape.exponent_width, reset_less=True)
        known = Signal(shape.exponent_width)
        m.d.comb += known.eq(Mux(self.first, 0, group_exponent))

        lanes, live = [], []
        for lane in range(LANES):
            activation, term = self.activations[lane], self.terms[lane]
            total = Signal(shape.exponent_width, name=f"lane_exponent_{lane}")
            counted = Signal(shape.exponent_width, name=f"counted_exponent_{lane}")
            m.d.comb += [
                total.eq(activation.exponent + term.exp),
                counted.eq(Mux(activation.nonzero & term.man, total, 0)),
            ]
            lanes.append(total)
            live.append(counted)
        of_lanes = _larger(m, _larger(m, live[0], live[1], "larger_01"), _larger(m, live[2], live[3], "larger_23"), "larger_0123")
        highest = _larger(m, of_lanes, known, "larger")
        m.d.comb += [
            self.exponent.eq(group_exponent),
            self.acc_shift.eq(at_most((highest - known)[:shape.exponent_width], shape.acc_width + 1)),
        ]
        # Of a lane that does not count, nothing is shifted, whatever the difference.
        m.d.comb += [self.lane_shift[lane].eq(at_most((highest - total)[:shape.exponent_width], shape.lane_width + 1))
                     for lane, total in enumerate(lanes)]
        with m.If(self.valid):
            m.d.sync += group_exponent.eq(highest)
        return m


def _larger(m: Module, a: Value, b: Value, name: str) -> Value:
    """Return the larger of two."""
    larger = Signal(len(a), name=name)
    m.d.comb += larger.eq(Mux(a > b, a, b))
    return larger
