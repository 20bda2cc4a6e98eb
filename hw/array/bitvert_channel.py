"""One channel's weights on their way into a BitVert array: schedules of bit columns, place values, digits of the constant."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitvert.pe import DIGIT_BITS, MULTIPLES, digit_layout, pe_column_layout
from hw.pe.bitvert.scheduler import SUBGROUP, ColumnScheduler
from hw.pe.bitvert.sums import LANES, SUBGROUPS

__all__ = ["WeightChannel", "channel_control_layout", "metadata_layout"]

metadata_layout = data.StructLayout({"redundant": 2, "constant": 2 * DIGIT_BITS})
"""Of a group of 32 weights: columns below the sign that repeat it, and the constant of the columns that are not stored, in two's
complement: so a mean of up to five columns is itself."""

channel_control_layout = data.StructLayout({"valid": 1, "first": 1, "second": 1, "subtract": 1})
"""A column comes; it is the first or second one of its weights; the constant is subtracted, not added."""


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
        control = self.control
        for group in range(SUBGROUPS):
            m.submodules[f"scheduler_{group}"] = scheduler = ColumnScheduler()
            held = Signal(scheduler.o.shape(), name=f"schedule_{group}", reset_less=True)
            m.d.comb += [
                scheduler.column.eq(self.bits[group * SUBGROUP:(group + 1) * SUBGROUP]), self.o.schedules[group].eq(held)]
            with m.If(control.valid):
                m.d.sync += held.eq(scheduler.o)

        significance = Signal(3, reset_less=True)
        digit, later = (Signal(digit_layout, name=name, reset_less=True) for name in ("digit", "digit_later"))
        with m.If(control.valid):
            m.d.sync += significance.eq(Mux(control.first, 7 - self.meta.redundant, significance - 1))
            m.d.sync += digit.eq(Mux(control.first | control.second, self._digit(m).as_value(), 0))
        m.d.sync += later.eq(digit)
        m.d.comb += [self.o.significance.eq(significance), self.o.digit.eq(later)]
        return m

    def _digit(self, m: Module) -> data.View:
        """Return the constant's upper digit with the first column, the lower one with the second: radix-8 Booth, −4 … 4."""
        constant, subtract = self.meta.constant, self.control.subtract
        value = Signal(signed(DIGIT_BITS + 1))
        low = constant[:DIGIT_BITS].as_signed()
        high = constant[DIGIT_BITS:].as_signed() + constant[DIGIT_BITS - 1]
        m.d.comb += value.eq(Mux(self.control.first, high, low))
        digit = Signal(digit_layout, name="digit_chosen")
        with m.Switch(value):
            for index, factor in enumerate(MULTIPLES):
                with m.Case(*{factor, -factor}):
                    m.d.comb += digit.multiple.eq(index)
        m.d.comb += digit.negative.eq((value < 0) ^ (subtract & (value != 0)))
        return digit
