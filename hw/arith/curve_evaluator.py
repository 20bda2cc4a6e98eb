"""Piecewise polynomial evaluator."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.pipeline import registered
from hw.curves import Curve

__all__ = ["CurveEvaluator"]


class CurveEvaluator(wiring.Component):
    """Piecewise polynomial evaluator: Horner's rule in integers with the coefficients of a `Curve`.

    Latency 1 + 2 · degree cycles with `enable` high (look up; then multiply and add for each degree), initiation interval 1; no
    reset. Each coefficient has a table of its own, read when it is needed: 2^index_bits words of logic, or a ROM with a register
    behind it. For each degree a multiplier of offset_bits by the bits of the coefficient above, and an adder.

    Parameters
    ----------
    curve : Curve

    Members
    -------
    enable : In(1)
        0 holds every register.
    argument : In(index_bits + offset_bits)
        Segment on top, offset in it below.
    value : Out(fraction_bits + 2)
        In units of 2^−fraction_bits; two's complement of a curve that goes below zero.

    Attributes
    ----------
    latency : int
        Cycles from `argument` to `value`.
    """

    def __init__(self, curve: Curve):
        self._curve = curve
        self.latency = 1 + 2 * curve.degree
        super().__init__({"enable": In(1), "argument": In(curve.index_bits + curve.offset_bits), "value": Out(curve.value_bits)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        curve = self._curve

        def held(value: Value, name: str, stages: int = 1) -> Value:
            return registered(m, self.enable, value, name, stages)

        index, offset = self.argument[curve.offset_bits:], held(self.argument[:curve.offset_bits], "offset")
        value = held(self._table(m, curve.degree, index), "top")
        for order in reversed(range(curve.degree)):
            product = held(value * offset, f"product_{order}")
            index = held(index, f"index_{order}", 1 if order == curve.degree - 1 else 2)
            offset = held(offset, f"offset_{order}", 2)
            coefficient = held(self._table(m, order, index), f"coefficient_{order}")
            total = (product >> curve.offset_bits) + coefficient
            value = held(total[:curve.sum_bits(order)].as_signed(), f"value_{order}")
        m.d.comb += self.value.eq(value)
        return m

    def _table(self, m: Module, order: int, index: Value) -> Value:
        """Return c_order of segment `index`."""
        word = Signal(signed(self._curve.coefficient_bits(order)), name=f"table_{order}")
        with m.Switch(index):
            for number, segment in enumerate(self._curve.coefficients):
                with m.Case(number):
                    m.d.comb += word.eq(segment[order])
        return word
