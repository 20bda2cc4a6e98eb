"""P3-LLM's processing unit: 16 dot products of four 4-bit weights each, one column of DRAM for two vectors."""

import itertools
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pim.multiplier import ACC_WIDTH, Multiplier, operand_named
from hw.share import shared

__all__ = ["P3_LANES", "P3_PES", "P3_VECTORS", "P3Unit"]

P3_PES = 16                 # processing elements, each with another output
P3_LANES = 4                # products that a PE adds in a cycle
P3_VECTORS = 2              # that a column is used for
_SUM_WIDTH = 28
_WEIGHTS = ("bitmod4", "p3-kv", "p3-kv")
_XS = ("float8_e4m3fn", "float8_e4m3fn", "float8_s0e4m4")


class P3Unit(wiring.Component):
    """One unit (PCU): column · x into an INT32 accumulator of each PE and vector, saturating.

    A column of 256 bits is 64 weights, lane l of PE p in nibble 4·p + l. Mode 0 (LINEAR): BitMoD FP4 × E4M3, the special value by
    PE; 1 (QK): INT4 − zero point × E4M3, the zero point by PE, each of which has another token; 2 (PV): INT4 − zero point ×
    S0E4M4, the zero point by lane. Products are integers of 26 bits: 6-bit significands multiplied, shifted left by the
    exponent of x. Four of them add to 28 bits. An accumulator is in units of 2^−12, 2^−11 or 2^−19, by mode.

    Throughput-enhanced mode: the unit works at the rate of tCCD_S, the DRAM sends a column every tCCD_L, two cycles; `hold`
    keeps the last column for a second vector. Without it, half of the cycles are empty.

    Latency 4 cycles (multiply; shift; add four; accumulate), initiation interval 1.

    Members
    -------
    valid : In(1)
        Something to add in this cycle.
    hold : In(1)
        Use the column of the last `valid` cycle again; `column` means nothing.
    column : In(256), x : In(array of 4 × 8), mode : In(2), vector : In(1)
        The vector says which accumulators.
    first : In(1)
        The accumulators begin from 0.
    zero_point : In(array of 16 × 4), special : In(array of 16 × 2)
        By PE, or in mode 2 by lane, of which there are 4.
    o : Out(array of 2 × array of 16 × signed(32))
        The accumulators, by vector and PE.
    saturated, invalid : Out(1)
        Sticky: an accumulator was clipped; an x was NaN, and taken as 480.

    Attributes
    ----------
    latency : int

    References
    ----------
    Chen et al., P3-LLM, arXiv 2511.06838: formats, four-way PEs, the throughput-enhanced mode; widths and pipeline as others'
    RTL of it states them. Differs: a NaN is reported. The authors of BitMoD state that a patent application has been filed.
    """

    latency = 4

    def __init__(self) -> None:
        super().__init__({
            "valid": In(1), "hold": In(1), "column": In(4 * P3_PES * P3_LANES), "x": In(data.ArrayLayout(8, P3_LANES)),
            "mode": In(2), "vector": In(1), "first": In(1), "zero_point": In(data.ArrayLayout(4, P3_PES)),
            "special": In(data.ArrayLayout(2, P3_PES)),
            "o": Out(data.ArrayLayout(data.ArrayLayout(signed(ACC_WIDTH), P3_PES), P3_VECTORS)),
            "saturated": Out(1), "invalid": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept, column = Signal.like(self.column), Signal(data.ArrayLayout(data.ArrayLayout(4, P3_LANES), P3_PES))
        m.d.comb += column.as_value().eq(Mux(self.hold, kept, self.column))
        with m.If(self.valid):
            m.d.sync += kept.eq(column)

        # What belongs to a cycle, on its way: after multiplying, shifting, adding.
        flags = data.StructLayout({"valid": 1, "vector": 1, "first": 1})
        stages = [Signal(flags, name=f"stage_{index}") for index in range(4)]
        m.d.comb += [stages[0].valid.eq(self.valid), stages[0].vector.eq(self.vector), stages[0].first.eq(self.first)]
        m.d.sync += [later.eq(earlier) for earlier, later in itertools.pairwise(stages)]

        ways = tuple(operand_named(name) for name in _WEIGHTS), tuple(operand_named(name) for name in _XS)
        stray, clipped = Signal(P3_PES * P3_LANES), Signal(P3_PES)
        for pe in range(P3_PES):
            products = []
            for lane in range(P3_LANES):
                multiplier = Multiplier(weights=ways[0], xs=ways[1], acc="int32")
                m.submodules[f"multiplier_{pe}_{lane}"] = shared(platform, "pim_multiplier_p3", multiplier)
                m.d.comb += [
                    multiplier.weight.eq(column[pe][lane]), multiplier.x.eq(self.x[lane]), multiplier.select.eq(self.mode),
                    multiplier.zero_point.eq(Mux(self.mode == 2, self.zero_point[lane], self.zero_point[pe])),
                    multiplier.special.eq(self.special[pe]), stray[pe * P3_LANES + lane].eq(multiplier.invalid),
                ]
                products.append(multiplier.o.as_signed())
            total = Signal(signed(_SUM_WIDTH), name=f"sum_{pe}", reset_less=True)
            m.d.sync += total.eq(sum(products[1:], products[0]))
            own = Signal(P3_VECTORS, name=f"clipped_{pe}")
            for vector in range(P3_VECTORS):
                accumulator = Signal(signed(ACC_WIDTH), name=f"accumulator_{vector}_{pe}")
                added = Signal(signed(ACC_WIDTH + 1), name=f"added_{vector}_{pe}")
                fits = added[-1] == added[-2]
                m.d.comb += [added.eq(Mux(stages[3].first, 0, accumulator) + total), self.o[vector][pe].eq(accumulator)]
                with m.If(stages[3].valid & (stages[3].vector == vector)):
                    m.d.comb += own[vector].eq(~fits)
                    m.d.sync += accumulator.eq(Mux(fits, added, Cat((~added[-1]).replicate(ACC_WIDTH - 1), added[-1])))
            m.d.comb += clipped[pe].eq(own.any())
        m.d.sync += [self.saturated.eq(self.saturated | clipped.any()),
                     self.invalid.eq(self.invalid | (stages[2].valid & stray.any()))]
        return m
