"""One channel's weights on their way into a BitVert array: schedules of bit columns, place values, digits of the constant."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitvert.pe import DIGIT_BITS, pe_column_layout
from hw.pe.bitvert.scheduler import SUBGROUP, ColumnScheduler
from hw.pe.bitvert.sums import LANES, SUBGROUPS

__all__ = ["WeightChannel", "channel_control_layout", "metadata_layout"]

metadata_layout = data.StructLayout({"redundant": 2, "constant": 2 * DIGIT_BITS})
"""Of a group of 32 weights: columns below the sign that repeat it, and the constant of the columns that are not stored."""

channel_control_layout = data.StructLayout({"valid": 1, "first": 1, "second": 1, "subtract": 1})
"""A column comes; it is the first or second one of its weights; the constant is two's complement and subtracted, not unsigned
and added."""


class WeightChannel(wiring.Component):
    """Bit columns of 16 weights, the sign first → what the PEs of their channel do, one cycle later, the digit two cycles later.

    The first column's place value is 2^(7 − redundant), and each next one's half of it.

    Members
    -------
    control : In(`channel_control_layout`)
    bits : In(16), meta : In(`metadata_layout`)
        With the first column of weights; `bits` of each.
    o : Out(`pe_column_layout`)
    """

    def __init__(self) -> None:
        super().__init__({
            "control": In(channel_control_layout),
            "bits": In(LANES),
            "meta": In(metadata_layout),
            "o": Out(pe_column_layout),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control, constant = self.control, self.meta.constant
        for group in range(SUBGROUPS):
            m.submodules[f"scheduler_{group}"] = scheduler = ColumnScheduler()
            held = Signal(scheduler.o.shape(), name=f"schedule_{group}", reset_less=True)
            m.d.comb += [
                scheduler.column.eq(self.bits[group * SUBGROUP:(group + 1) * SUBGROUP]), self.o.schedules[group].eq(held)]
            with m.If(control.valid):
                m.d.sync += held.eq(scheduler.o)

        significance = Signal(3, reset_less=True)
        digit, later = (Signal(signed(DIGIT_BITS + 1), name=name, reset_less=True) for name in ("digit", "digit_later"))
        high, low = constant[DIGIT_BITS:], constant[:DIGIT_BITS]
        with m.If(control.valid):
            m.d.sync += [significance.eq(Mux(control.first, 7 - self.meta.redundant, significance - 1)), digit.eq(0)]
            with m.If(control.first):
                m.d.sync += digit.eq(Mux(control.subtract, -high.as_signed(), high))
            with m.If(control.second):
                m.d.sync += digit.eq(Mux(control.subtract, -low, low))
        m.d.sync += later.eq(digit)
        m.d.comb += [self.o.significance.eq(significance), self.o.digit.eq(later)]
        return m
