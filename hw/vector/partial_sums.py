"""The running sums of rows into one sum of each."""

from typing import Any, NamedTuple

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.pipeline import registered
from hw.config import ceil_log2
from hw.vector.float32 import ADD_LATENCY, added
from hw.vector.layouts import RowResult

__all__ = ["PARTIAL_SUMS", "PartialSums"]

PARTIAL_SUMS = 8


class _Sum(NamedTuple):
    valid: Value
    index: Value
    last: Value
    value: Value


class PartialSums(wiring.Component):
    """Partial sums: the running sums of each row in pairs of neighbours, pairs of pairs, and so on: three adders, one a level.

    They come one a cycle: of a row with fewer than eight its running sums 0, 1, …, and the others are +0; else all eight,
    beginning with any and going on from the last to 0. So two neighbours follow each other, but that a row may begin with the
    second one of a pair: that waits until its neighbour comes, which is the row's last. Latency 18 cycles with `enable` high,
    initiation interval 1.

    Members
    -------
    enable : In(1)
        0 holds every register.
    valid : In(1), index : In(3), last : In(1), value : In(32)
        A running sum, its number, whether it is the row's last one.
    o : Out(RowResult)
        `valid` until the next cycle with `enable`.
    busy : Out(1)
        A sum is on its way.

    Attributes
    ----------
    latency : int
        Cycles from a row's last running sum to `o`.
    """

    latency = ceil_log2(PARTIAL_SUMS) * ADD_LATENCY

    def __init__(self) -> None:
        super().__init__({"enable": In(1), "valid": In(1), "index": In(range(PARTIAL_SUMS)), "last": In(1), "value": In(32),
                          "o": Out(RowResult), "busy": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        found = _Sum(valid=self.valid, index=self.index, last=self.last, value=self.value)
        for level in range(ceil_log2(PARTIAL_SUMS)):
            found = self._level(m, platform, level, found)
        # Of a row that was broken off, the last one is missing.
        m.d.comb += [self.o.valid.eq(found.valid & found.last), self.o.value.eq(found.value)]
        return m

    def _level(self, m: Module, platform: Any, level: int, i: _Sum) -> _Sum:
        """Return the sums of pairs."""
        begun = Signal(name=f"begun_{level}")               # the row has
        wrapped = Signal(name=f"wrapped_{level}")           # it has with the second one of a pair
        even, odd = (Signal(32, name=f"{name}_{level}", reset_less=True) for name in ("even", "odd"))
        second = i.index[0]
        waits = Mux(second, ~begun, ~i.last)
        total = added(m, platform, self.enable, i.value, Mux(second, even, Mux(wrapped, odd, 0)), f"add_{level}")
        with m.If(self.enable & i.valid):
            m.d.sync += begun.eq(~i.last)
            with m.If(~second):
                m.d.sync += even.eq(i.value)
            with m.Elif(~begun):
                m.d.sync += [odd.eq(i.value), wrapped.eq(1)]
            with m.If(i.last):
                m.d.sync += wrapped.eq(0)

        valid = Signal(ADD_LATENCY, name=f"valid_{level}")
        with m.If(self.enable):
            m.d.sync += valid.eq(Cat(i.valid & ~waits, valid))
        place = registered(m, self.enable, Cat(i.last, i.index[1:]), f"place_{level}", ADD_LATENCY)
        with m.If(valid.any()):
            m.d.comb += self.busy.eq(1)
        return _Sum(valid=valid[-1], index=place[1:], last=place[0], value=total)
