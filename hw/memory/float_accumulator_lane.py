"""One word of an accumulator row of float32 words: a psum is added to it."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_add import FloatAdd
from hw.elements import FP32
from hw.timing import FLOAT_ACCUMULATOR_LATENCY

__all__ = ["FloatAccumulatorLane"]


class FloatAccumulatorLane(wiring.Component):
    """One word of an accumulator row: old + psum in float32, rounded to nearest, ties to even; subnormal numbers count as zero.

    Latency `latency` cycles, two until both terms are in registers and those of `FloatAdd`; initiation interval 1. What the row
    held must be there, so that the same row can come again after `latency` cycles.

    Members
    -------
    psum : In(32)
        What to add.
    accumulate : In(1), old : In(32)
        One cycle after the psum: whether to add to what the row held, else to +0.
    result : Out(32)
        The word to write, `latency` cycles after the psum.
    """

    latency = 2 + FloatAdd.latency

    def __init__(self) -> None:
        assert self.latency == FLOAT_ACCUMULATOR_LATENCY
        word = FP32.bits
        super().__init__({"psum": In(word), "accumulate": In(1), "old": In(word), "result": Out(word)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        waiting, psum, held = (Signal(FP32.bits, name=name, reset_less=True)
                               for name in ("psum_waiting", "psum_register", "old_register"))
        m.submodules.add = add = FloatAdd(fmt=FP32)
        m.d.sync += [waiting.eq(self.psum), psum.eq(waiting), held.eq(Mux(self.accumulate, self.old, 0))]
        m.d.comb += [add.enable.eq(1), add.a.eq(held), add.b.eq(psum), self.result.eq(add.o)]
        return m
