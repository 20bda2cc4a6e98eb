"""The sum of four lanes: a one-bit multiplication each, shifted, rounded, negated, added."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.rounding import StickyShift, round_increment
from hw.pe.bitmod.align import lane_shift_width
from hw.pe.bitmod.precision import LANES, term_layout
from hw.pe.bitmod.shape import GUARD_BITS, BitmodShape

__all__ = ["LaneSum"]

_DROPPED = 2            # bits below a lane's last place, by which it is rounded


class LaneSum(wiring.Component):
    """Sum of four lanes, each ± its activation or zero, as its term says. Combinational.

    Floats: the significand moves right by `shift`, keeps `GUARD_BITS` bits below its last place and is rounded to nearest, ties
    to even, before it is negated. Integers: the activation moves left by the term's exponent, exactly. A negated lane and one
    that is rounded up both ask for a one in the lowest place; where both are, they cancel, so that a lane adds one carry at
    most.

    Parameters
    ----------
    shape : BitmodShape

    Members
    -------
    activations : In(4 × `shape.activation_layout`), terms : In(4 × `term_layout`)
    shift : In(4 × lane_shift_width)
        Only of float activations.
    o : Out(signed(sum_width))

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Fig. 5 and text: AND, shift with 3 extra bits, two's complement, adder tree of 17 bits
    (float16).
    """

    def __init__(self, shape: BitmodShape):
        self._shape = shape
        members: dict[str, Any] = {
            "activations": In(data.ArrayLayout(shape.activation_layout, LANES)),
            "terms": In(data.ArrayLayout(term_layout, LANES)),
            "o": Out(signed(shape.sum_width)),
        }
        if shape.is_float:
            members["shift"] = In(data.ArrayLayout(lane_shift_width(shape), LANES))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self._shape
        addends: list[Value] = []
        for lane in range(LANES):
            word, negative, up = self._float(m, lane) if shape.is_float else self._integer(lane)
            turned = Signal(signed(shape.lane_width + 1), name=f"lane_{lane}")
            m.d.comb += turned.eq(word ^ negative.replicate(shape.lane_width + 1))
            addends += [turned, negative ^ up]
        m.d.comb += self.o.eq(sum(addends))
        return m

    def _float(self, m: Module, lane: int) -> tuple[Value, Value, Value]:
        """Return a lane's magnitude with a place for the sign, whether it is negative, and whether it is rounded up."""
        shape, activation, term = self._shape, self.activations[lane], self.terms[lane]
        m.submodules[f"shift_{lane}"] = shift = StickyShift(width=shape.lane_width + _DROPPED,
                                                            amount_width=lane_shift_width(shape))
        m.d.comb += [
            shift.i.eq(Cat(C(0, GUARD_BITS + _DROPPED), activation.significand & term.man.replicate(shape.significand_width))),
            shift.amount.eq(self.shift[lane]),
        ]
        return Cat(shift.o[_DROPPED:], C(0, 1)), activation.sign ^ term.sign, round_increment(shift.o, _DROPPED)

    def _integer(self, lane: int) -> tuple[Value, Value, Value]:
        """Return the same of an integer, which is two's complement already and never rounded."""
        shape, term = self._shape, self.terms[lane]
        integer = self.activations[lane].integer & term.man.replicate(shape.significand_width)
        shifted = (integer.as_signed() << term.exp)[:shape.lane_width]
        return Cat(shifted, shifted[-1]), term.sign, C(0, 1)
