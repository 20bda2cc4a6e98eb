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
    behind it. For each degree a multiplier of offset_bits by the bits of the coefficient above, and an adder. Several curves
    share these; one of a lower degree has zeros above its coefficients.

    Parameters
    ----------
    curves : Curve
        All with the same offset_bits.

    Members
    -------
    enable : In(1)
        0 holds every register.
    select : In(range(number of curves))
        Which curve the argument is of; only there if there are several.
    argument : In(index_bits + offset_bits)
        Segment on top, offset in it below.
    value : Out(fraction_bits + 2)
        In units of 2^−fraction_bits; two's complement of a curve that goes below zero, and as wide as the widest.

    Attributes
    ----------
    latency : int
        Cycles from `argument` to `value`.
    """

    def __init__(self, *curves: Curve):
        (self._offset_bits,) = {curve.offset_bits for curve in curves}
        self._curves, self._index_bits = curves, max(curve.index_bits for curve in curves)
        self._degree = max(curve.degree for curve in curves)
        self.latency = 1 + 2 * self._degree
        members: dict[str, Any] = {"enable": In(1), "argument": In(self._index_bits + self._offset_bits),
                                   "value": Out(max(curve.value_bits for curve in curves))}
        if len(curves) > 1:
            members["select"] = In(range(len(curves)))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        degree, offset_bits = self._degree, self._offset_bits

        def held(value: Value, name: str, stages: int = 1) -> Value:
            return registered(m, self.enable, value, name, stages)

        select = self.select if len(self._curves) > 1 else C(0, 0)
        index, offset = Cat(self.argument[offset_bits:], select), held(self.argument[:offset_bits], "offset")
        value = held(self._table(m, degree, index), "top")
        for order in reversed(range(degree)):
            product = held(value * offset, f"product_{order}")
            index = held(index, f"index_{order}", 1 if order == degree - 1 else 2)
            offset = held(offset, f"offset_{order}", 2)
            coefficient = held(self._table(m, order, index), f"coefficient_{order}")
            total = (product >> offset_bits) + coefficient
            bits = max(curve.sum_bits(order) if order < curve.degree else self._bits(curve, order) for curve in self._curves)
            value = held(total[:bits].as_signed(), f"value_{order}")
        m.d.comb += self.value.eq(value)
        return m

    def _table(self, m: Module, order: int, index: Value) -> Value:
        """Return c_order of segment `index`, whose top bits are the curve's number."""
        word = Signal(signed(max(self._bits(curve, order) for curve in self._curves)), name=f"table_{order}")
        with m.Switch(index):
            for which, curve in enumerate(self._curves):
                for number, segment in enumerate(curve.coefficients if order <= curve.degree else ()):
                    with m.Case(which << self._index_bits | number):
                        m.d.comb += word.eq(segment[order])
        return word

    @staticmethod
    def _bits(curve: Curve, order: int) -> int:
        return curve.coefficient_bits(order) if order <= curve.degree else 1
