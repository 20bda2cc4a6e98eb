"""Compares what a block and its twin put out."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Comparator"]


class Comparator(wiring.Component):
    """Tells, one cycle later, that two words differ.

    Parameters
    ----------
    width : int
        Of each, in bits.

    Members
    -------
    a, b : In(width)
    flag : Out(1)
        Registered.
    """

    keep_hierarchy = True

    def __init__(self, width: int):
        super().__init__({"a": In(width), "b": In(width), "flag": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.flag.eq(self.a != self.b)
        return m
