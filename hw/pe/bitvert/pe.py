"""BitVert PE: one bit column of 16 weights a cycle, times 16 int8 activations."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitvert.scheduler import CHOICES, SELECTS, SUBGROUP, schedule_layout
from hw.pe.bitvert.sums import LANES, SUBGROUPS, sums_layout

__all__ = ["DIGIT_BITS", "MULTIPLES", "BitvertPE", "digit_layout", "multiples_layout", "pe_column_layout", "pe_control_layout"]

DIGIT_BITS = 3
"""Bits of the constant that a cycle multiplies by."""
MULTIPLES = (0, 1, 2, 3, 4)
"""What a digit of the constant can be, but for its sign; only 3 · ΣA is more than ΣA shifted."""

digit_layout = data.StructLayout({"multiple": 3, "negative": 1})
"""A digit of the constant: index of one of `MULTIPLES`, and its sign."""

multiples_layout = data.StructLayout({"once": signed(12), "thrice": signed(14)})
"""ΣA of all 16 activations of a row, and 3 · ΣA."""

pe_control_layout = data.StructLayout({"valid": 1, "negate": 1, "add": 1, "fresh": 1, "high": 1, "take": 1})
"""What all PEs are told in the same cycle. `valid`: a column comes. A cycle later: `add` what was made of it, to zero where
`fresh`, with its sign changed where `negate`; `high`: the digit is the constant's upper one. Another cycle later: `take` the
sum."""

pe_column_layout = data.StructLayout({
    "schedules": data.ArrayLayout(schedule_layout, SUBGROUPS),
    "significance": 3,
    "digit": digit_layout,
})
"""What all PEs of a channel are told: how to add the column, its place value, and with `add` a digit of the constant."""


class BitvertPE(wiring.Component):
    """psum += ±2^significance · Σ of the column's activations + digit · ΣA · 2^(0 or 3); one column a cycle.

    Each sub-group of eight adds up to four activations through four 5:1 multiplexers, and where that is inverted takes the sum
    from ΣA. A column is added `latency` cycles after it came. The constant is two digits of three bits, one with each of the
    first two columns.

    Parameters
    ----------
    psum_width : int
        Of the accumulator, which wraps; with 16 + log2 K bits it does not.

    Members
    -------
    control : In(`pe_control_layout`), column : In(`pe_column_layout`)
    activations : In(16 × signed(8)), sums : In(`sums_layout`)
        Of the column that comes.
    total : In(`multiples_layout`)
        With `add`.
    result : Out(signed(psum_width))
        The sum taken last.

    Reference
    ---------
    Chen et al., BBS, MICRO 2024, Fig. 7, and the authors' BitSim RTL for widths. Differs: the constant's digits are
    radix-8 Booth digits, −4 to 4, made once for a channel, and multiples of ΣA are made once for a row, so that a PE chooses and
    adds (theirs are signed digits of three bits, which do not reach 28 to 31); results wait in a register of their own, so that
    the next ones can start.
    """

    latency = 2

    def __init__(self, *, psum_width: int):
        self.psum_width = psum_width
        super().__init__({
            "control": In(pe_control_layout),
            "column": In(pe_column_layout),
            "activations": In(data.ArrayLayout(signed(8), LANES)),
            "sums": In(sums_layout),
            "total": In(multiples_layout),
            "result": Out(signed(psum_width)),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the PE."""
        return f"pe_bitvert_p{self.psum_width}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        parts = []
        for group in range(SUBGROUPS):
            schedule = self.column.schedules[group]
            chosen = []
            for j in range(SELECTS):
                value = Signal(signed(8), name=f"chosen_{group}_{j}")
                with m.If(schedule.selects[j].valid), m.Switch(schedule.selects[j].select):
                    for place in range(CHOICES):
                        with m.Case(place):
                            m.d.comb += value.eq(self.activations[group * SUBGROUP + j + place])
                chosen.append(value)
            added = Signal(signed(10), name=f"added_{group}")
            part = Signal(signed(11), name=f"part_{group}")
            m.d.comb += [
                added.eq((chosen[0] + chosen[1]) + (chosen[2] + chosen[3])),
                part.eq(Mux(schedule.invert, self.sums[group] - added, added)),
            ]
            parts.append(part)
        column = Signal(signed(12))
        shifted = Signal(signed(19), reset_less=True)
        m.d.comb += column.eq(parts[0] + parts[1])
        with m.If(self.control.valid):
            m.d.sync += shifted.eq(column << self.column.significance)

        digit, total = self.column.digit, self.total
        multiple, constant = Signal(signed(14)), Signal(signed(17))
        with m.Switch(digit.multiple):
            for index, factor in enumerate(MULTIPLES):
                with m.Case(index):
                    m.d.comb += multiple.eq(total.thrice if factor == 3 else total.once * factor)
        m.d.comb += constant.eq(Mux(self.control.high, multiple << DIGIT_BITS, multiple))
        psum = Signal(signed(self.psum_width), reset_less=True)
        with m.If(self.control.add):
            m.d.sync += psum.eq(Mux(self.control.fresh, 0, psum) + _signed(shifted, self.control.negate)
                                + _signed(constant, digit.negative))
        with m.If(self.control.take):
            m.d.sync += self.result.eq(psum)
        return m


def _signed(value: Value, negative: Value) -> Value:
    """Return `value`, or its negative as inverted bits and a carry."""
    return (value ^ negative.replicate(len(value)).as_signed()) + negative
