"""Turns 16 plain int8 weights of every channel into their eight bit columns."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitvert.sums import LANES

__all__ = ["BitvertPlanes"]

_BITS = 8


class BitvertPlanes(wiring.Component):
    """Plain weights in, a slot of C a cycle; eight bit columns out, the sign's first, one every `pace` cycles.

    The first column comes `latency` cycles after the last slot of its weights; meanwhile and while the others go out, the next 16
    slots come in.

    Parameters
    ----------
    columns : int
        C.
    pace : int
        1 or 2.

    Members
    -------
    valid : In(1), lane : In(range(16)), last : In(1), weights : In(C × 8)
        Weight `lane` of each channel; the last slot of these weights. Those of no slot are anything.
    o_valid, first, ends : Out(1), second : Out(1), bits : Out(C × 16)
        A column; it is the first, second or last one of its weights.
    starts : Out(1)
        The first column comes in the next cycle.
    busy : Out(1)
    """

    latency = 2

    def __init__(self, *, columns: int, pace: int = 1):
        self.columns, self._pace = columns, pace
        super().__init__({
            "valid": In(1), "lane": In(range(LANES)), "last": In(1), "weights": In(data.ArrayLayout(_BITS, columns)),
            "o_valid": Out(1), "first": Out(1), "second": Out(1), "ends": Out(1),
            "bits": Out(data.ArrayLayout(LANES, columns)),
            "starts": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slot = data.ArrayLayout(_BITS, self.columns)
        gathered = [Signal(slot, name=f"gathered_{lane}", reset_less=True) for lane in range(LANES)]
        moving = [Signal(slot, name=f"moving_{lane}", reset_less=True) for lane in range(LANES)]
        full = Signal()
        left = Signal(range(_BITS * self._pace + 1))      # cycles
        m.d.sync += full.eq(self.valid & self.last)
        shift = left[0] if self._pace == 2 else Const(1)
        for lane, (held, planes) in enumerate(zip(gathered, moving, strict=True)):
            with m.If(self.valid & (self.lane == lane)):
                m.d.sync += held.eq(self.weights)
            for c in range(self.columns):
                m.d.comb += self.bits[c][lane].eq(planes[c][_BITS - 1])
                m.d.sync += planes[c].eq(Mux(full, held[c], Mux(shift, planes[c] << 1, planes[c])))
        with m.If(full):
            m.d.sync += left.eq(_BITS * self._pace)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [
            self.o_valid.eq((left != 0) & ~left[0] if self._pace == 2 else left != 0),
            self.first.eq(left == _BITS * self._pace), self.second.eq(left == (_BITS - 1) * self._pace),
            self.ends.eq(left == self._pace),
            self.starts.eq(full), self.busy.eq(full | (left != 0)),
        ]
        return m
