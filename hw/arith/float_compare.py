"""Floating-point comparison."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import before, check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.elements import FloatFormat

__all__ = ["FloatCompare"]


class FloatCompare(wiring.Component):
    """Floating-point comparison: exactly one of less, equal, greater and unordered.

    As IEEE 754: −0 equals +0, and NaN is unordered with everything, itself included. Without `subnormals`, subnormal values are
    zeros. Latency 1 cycle with `enable` high, initiation interval 1; no reset. Two comparators of the magnitudes.

    Parameters
    ----------
    fmt : FloatFormat
    subnormals : bool

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    less, equal, greater, unordered : Out(1)
        Of a with b.

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b` to the outputs.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`).
    """

    latency = 1

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False):
        check_format("FloatCompare.fmt", fmt)
        self._fmt, self._subnormals = fmt, subnormals
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "less": Out(1), "equal": Out(1), "greater": Out(1),
                          "unordered": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = (unpack(self._fmt, word, subnormals=self._subnormals) for word in (self.a, self.b))
        unordered = a.nan | b.nan
        zeros = a.zero & b.zero
        equal = ~unordered & (zeros | (self.a.as_value() == self.b.as_value()))
        less = ~unordered & ~zeros & before(self.a, self.b)
        for output, value in ((self.less, less), (self.equal, equal), (self.greater, ~(less | equal | unordered)),
                              (self.unordered, unordered)):
            m.d.comb += output.eq(registered(m, self.enable, value, f"{output.name}_held"))
        return m
