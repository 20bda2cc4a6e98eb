"""Activations taken apart, once for a whole row of PEs."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout, unpack
from hw.elements import FloatFormat
from hw.pe.bitmod.precision import LANES
from hw.pe.bitmod.shape import BitmodShape

__all__ = ["ActivationUnpack"]


class ActivationUnpack(wiring.Component):
    """Activation words → what the lanes of a PE take. Combinational.

    Floats: significand with its leading one, which subnormal values have not, exponent as stored, at least 1. NaN and infinities
    count as zero and raise `flushed`. Integers pass as they are.

    Parameters
    ----------
    shape : BitmodShape

    Members
    -------
    words : In(4 × activation bits)
    o : Out(4 × `shape.activation_layout`)
    flushed : Out(1)
        One of the words is NaN or an infinity.
    """

    def __init__(self, shape: BitmodShape):
        self._shape = shape
        super().__init__({
            "words": In(data.ArrayLayout(shape.activation.bits, LANES)),
            "o": Out(data.ArrayLayout(shape.activation_layout, LANES)),
            "flushed": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        element = self._shape.activation
        if not isinstance(element, FloatFormat):
            m.d.comb += self.o.eq(self.words.as_value())
            return m
        special = Signal(LANES)
        for lane in range(LANES):
            parts = unpack(element, data.View(float_layout(element), self.words[lane]), subnormals=True)
            o = self.o[lane]
            m.d.comb += [
                special[lane].eq(parts.inf | parts.nan),
                o.significand.eq(parts.significand & ~special[lane].replicate(len(parts.significand))),
                o.exponent.eq(parts.exponent),
                o.sign.eq(parts.sign),
                o.nonzero.eq(~parts.zero & ~special[lane]),
            ]
        m.d.comb += self.flushed.eq(special.any())
        return m
