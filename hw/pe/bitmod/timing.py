"""What the PEs of a BitMoD array are told, and when: one schedule for all of them."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitmod.shape import SCALE_BITS

__all__ = ["BitmodTiming", "accumulate_layout", "align_layout", "scale_layout"]

align_layout = data.StructLayout({"valid": 1, "first": 1})
"""Control of a PE's exponents, in the cycle of a term."""

accumulate_layout = data.StructLayout({"valid": 1, "first": 1, "last": 1, "significance": 3})
"""Control of its accumulator, two cycles later."""

scale_layout = data.StructLayout({"step": 1, "first": 1})
"""Control of its scale, in the eight cycles after a group's last term was added."""


class BitmodTiming(wiring.Component):
    """Control of PEs that work in step: delays what is said of a term, and counts the bits of a group's scale.

    Latency: `align` in the cycle of the term, `accumulate` 2 cycles later, the first of eight `scale` steps 3 cycles after a
    group's last term, `done` 11 cycles after it. A group's last term may follow the one before it after 8 cycles.

    Members
    -------
    valid, first, last : In(1), significance : In(3)
        There is a term; it is of the first, or the last, cycle of its group; log2 of what it is worth.
    align : Out(`align_layout`), accumulate : Out(`accumulate_layout`), scale : Out(`scale_layout`)
        To every PE.
    done : Out(1)
        Products of a group are there.

    Attributes
    ----------
    latency : int
        Cycles from a group's last term to `done`.
    scale_latency : int
        Cycles from a group's last term to the scale's first bit.
    """

    scale_latency = 3
    latency = scale_latency + SCALE_BITS

    def __init__(self) -> None:
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "significance": In(3),
            "align": Out(align_layout),
            "accumulate": Out(accumulate_layout),
            "scale": Out(scale_layout),
            "done": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        term = Signal(accumulate_layout)
        m.d.comb += [
            self.align.valid.eq(self.valid), self.align.first.eq(self.first),
            term.valid.eq(self.valid), term.first.eq(self.first), term.last.eq(self.last),
            term.significance.eq(self.significance),
        ]
        delayed = Signal(accumulate_layout)
        m.d.sync += [delayed.eq(term), self.accumulate.eq(delayed)]

        step = Signal(range(SCALE_BITS + 1))            # 0: none, 1: the first bit, …
        m.d.comb += [self.scale.step.eq(step != 0), self.scale.first.eq(step == 1)]
        m.d.sync += self.done.eq(step == SCALE_BITS)
        with m.If(self.accumulate.valid & self.accumulate.last):
            m.d.sync += step.eq(1)
        with m.Elif(step == SCALE_BITS):
            m.d.sync += step.eq(0)
        with m.Elif(step != 0):
            m.d.sync += step.eq(step + 1)
        return m
