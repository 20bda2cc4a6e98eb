"""Floating-point minimum and maximum."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import before, check_format, float_layout, quiet_nan, unpack
from hw.elements import FloatFormat

__all__ = ["FloatMinMax"]


class FloatMinMax(wiring.Component):
    """Floating-point minimum and maximum, for which −0 is less than +0.

    IEEE 754-2019 minimum and maximum: if a or b is NaN, so are both outputs, the one quiet NaN. With `number`, minimumNumber and
    maximumNumber: the one that is a number, NaN if neither is. Without `subnormals`, subnormal values are zeros of their sign.
    Latency 1 cycle with `enable` high, initiation interval 1; no reset. Two comparators of the magnitudes; an output that is not
    used costs nothing.

    Parameters
    ----------
    fmt : FloatFormat
    subnormals : bool
    number : bool
        A number is taken before NaN.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    low, high : Out(`float_layout(fmt)`)
        The lesser and the greater.

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

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, number: bool = False):
        check_format("FloatMinMax.fmt", fmt)
        self._fmt, self._subnormals, self._number = fmt, subnormals, number
        layout = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(layout), "b": In(layout), "low": Out(layout), "high": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = (unpack(self._fmt, word, subnormals=self._subnormals) for word in (self.a, self.b))
        a_first = before(self.a, self.b)
        for name, output, ordered in (("low", self.low, a_first), ("high", self.high, ~a_first)):
            take_a = (ordered & ~a.nan) | b.nan if self._number else ordered
            result = Signal(output.shape(), name=f"{name}_held", reset_less=True)
            m.d.comb += output.eq(result)
            with m.If(self.enable):
                m.d.sync += result.eq(Mux(take_a, self.a, self.b))
                if not self._subnormals:
                    with m.If(Mux(take_a, a.zero, b.zero)):
                        m.d.sync += result.mantissa.eq(0)
                with m.If(a.nan & b.nan if self._number else a.nan | b.nan):
                    m.d.sync += result.eq(quiet_nan(self._fmt))
        return m
