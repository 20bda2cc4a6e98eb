"""Column scheduler: which activations of a sub-group a bit column of weights adds, or leaves out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CHOICES", "SELECTS", "SUBGROUP", "ColumnScheduler", "schedule_layout"]

SUBGROUP = 8
"""Weights whose bit column is scheduled together."""
SELECTS = SUBGROUP // 2
"""Activations that a sub-group adds in a cycle at most."""
CHOICES = SUBGROUP - SELECTS + 1
"""Activations that each multiplexer sees: multiplexer j those from j on."""

schedule_layout = data.StructLayout({
    "selects": data.ArrayLayout(data.StructLayout({"select": 3, "valid": 1}), SELECTS),
    "invert": 1,
})
"""What a PE does with a sub-group: multiplexer j adds activation j + `select` where `valid`; `invert`: what is added is what the
column leaves out."""


class ColumnScheduler(wiring.Component):
    """Bit column → selects of at most half its activations. Combinational.

    Σ over ones = Σ over all − Σ over zeros, so that of ones and zeros the rarer ones are enough: zeros where more than half of
    the bits are ones. The multiplexers take them in turn: encoder j looks at the bits j … j + 4 that the encoders before it have
    left, and takes the first. At most four of eight are left, so the j-th lies in that window, or later encoders reach it.

    Members
    -------
    column : In(8)
        One bit of each of eight weights.
    o : Out(`schedule_layout`)

    Reference
    ---------
    Chen et al., BBS, MICRO 2024, Fig. 7 (four chained priority encoders of five bits; exactly half is not inverted).
    """

    def __init__(self) -> None:
        super().__init__({"column": In(SUBGROUP), "o": Out(schedule_layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ones = sum(self.column[index] for index in range(SUBGROUP))
        left = Signal(SUBGROUP, name="left_0")
        m.d.comb += [self.o.invert.eq(ones > SELECTS), left.eq(self.column ^ self.o.invert.replicate(SUBGROUP))]
        for encoder in range(SELECTS):
            window, chosen = left[encoder:encoder + CHOICES], self.o.selects[encoder]
            m.d.comb += chosen.valid.eq(window.any())
            after = Signal(SUBGROUP, name=f"left_{encoder + 1}")
            m.d.comb += after.eq(left)
            with m.Switch(window):
                for place in range(CHOICES):
                    with m.Case("-" * (CHOICES - 1 - place) + "1" + "0" * place):
                        m.d.comb += [chosen.select.eq(place), after[encoder + place].eq(0)]
            left = after
        return m
