"""One column's weights on their way into a BitMoD tile: terms for its PEs, and the bits of their group's scale."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitmod.precision import LANES, term_layout
from hw.pe.bitmod.shape import SCALE_BITS
from hw.pe.bitmod.terms import TermGenerator, special_layout
from hw.share import shared

__all__ = ["WeightColumn"]


class WeightColumn(wiring.Component):
    """Four weights of a column → their terms, and a group's scale, bit by bit.

    Terms come one cycle after code and index, and once more a cycle later, for the two stages of a PE that need them. The scale
    is taken with `scale_take`; from the cycle after `scale_load` on, its highest bit is there, and the next one after each
    `scale_step`. It may be taken before it is loaded, while bits of the one before are still needed.

    Members
    -------
    codes : In(4 × 8), precision : In(3), index : In(2), special : In(2), specials : In(4 × `special_layout`)
        As `TermGenerator` takes them; `special` chooses among `specials`.
    terms, lane_terms : Out(4 × `term_layout`)
    scale : In(8), scale_take, scale_load, scale_step : In(1)
    scale_bit : Out(1)
    """

    def __init__(self) -> None:
        super().__init__({
            "codes": In(data.ArrayLayout(8, LANES)),
            "precision": In(3),
            "index": In(2),
            "special": In(2),
            "specials": In(data.ArrayLayout(special_layout, 4)),
            "terms": Out(data.ArrayLayout(term_layout, LANES)),
            "lane_terms": Out(data.ArrayLayout(term_layout, LANES)),
            "scale": In(SCALE_BITS),
            "scale_take": In(1),
            "scale_load": In(1),
            "scale_step": In(1),
            "scale_bit": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        special = Signal(special_layout)
        m.d.comb += special.eq(self.specials[self.special])
        layout = data.ArrayLayout(term_layout, LANES)
        terms, held, later = Signal(layout), Signal(layout, reset_less=True), Signal(layout, reset_less=True)
        for lane in range(LANES):
            generator = TermGenerator()
            m.submodules[f"lane_{lane}"] = shared(platform, "bitmod_terms", generator)
            m.d.comb += [
                generator.code.eq(self.codes[lane]), generator.precision.eq(self.precision), generator.index.eq(self.index),
                generator.special.eq(special), terms[lane].eq(generator.o),
            ]
        m.d.sync += [held.eq(terms), later.eq(held)]
        m.d.comb += [self.terms.eq(held), self.lane_terms.eq(later)]

        taken, moving = Signal(SCALE_BITS, reset_less=True), Signal(SCALE_BITS, reset_less=True)
        m.d.comb += self.scale_bit.eq(moving[-1])
        with m.If(self.scale_take):
            m.d.sync += taken.eq(self.scale)
        with m.If(self.scale_load):
            m.d.sync += moving.eq(taken)
        with m.Elif(self.scale_step):
            m.d.sync += moving.eq(moving << 1)
        return m
