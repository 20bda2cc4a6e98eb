"""Unified term generator: integers and 4- and 3-bit floats as the same bit-serial terms."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitmod.precision import WeightPrecision, term_layout

__all__ = ["SPECIAL_MAGNITUDE_WIDTH", "TermGenerator", "special_layout"]

SPECIAL_MAGNITUDE_WIDTH = 5
"""Bits of a weight's magnitude in units of one half: I3 I2 I1 I0 . F0."""

special_layout = data.StructLayout({"magnitude": SPECIAL_MAGNITUDE_WIDTH, "sign": 1})
"""A special value in units of one half."""

_FP4_MAGNITUDES = (0, 1, 2, 3, 4, 6, 8, 12)       # E2M1 in units of one half, by exponent and mantissa bits
_FP3_MAGNITUDES = (0, 2, 4, 8)                    # E2M0


class TermGenerator(wiring.Component):
    """Term generator: term `index` of a weight, the one that is worth most first. Combinational.

    weight = Σ (−1)^sign · man · 2^exp · 2^significance over its terms; of FP4 and FP3 in units of one half. Every weight of a
    precision has the same number of terms, zero ones (man = 0) among them, so that lanes stay in step.

    Integers: radix-4 Booth digits, of which digit k looks at the bits 2k + 1, 2k and 2k − 1 of the code. Floats: the magnitude
    as fixed point, I3 I2 I1 I0 . F0; one leading-one detector looks at I3 … I0, the other at I2 … F0 without the one that the
    first has found. The code of −0 means the special value, which must have at most two ones (`SpecialValues`).

    Members
    -------
    code : In(8)
        The weight in the lowest bits; those above do not count.
    precision : In(WeightPrecision)
    index : In(2)
        0 is the first term; beyond the last: no meaning.
    special : In(`special_layout`)
        What −0 stands for; FP4 and FP3.
    o : Out(`term_layout`)

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Eq. 4 and Fig. 4; its authors state that a patent application has been filed. Inferred: that
    the second detector does not see the one of the first; INT4 and INT3 (the paper has 8, 6 and 5 bits).
    """

    def __init__(self) -> None:
        super().__init__({
            "code": In(8),
            "precision": In(WeightPrecision),
            "index": In(2),
            "special": In(special_layout),
            "o": Out(term_layout),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        booth, detected = Signal(term_layout), Signal(term_layout)
        is_float = Signal()
        m.d.comb += [
            is_float.eq((self.precision == WeightPrecision.FP4) | (self.precision == WeightPrecision.FP3)),
            self.o.eq(Mux(is_float, detected.as_value(), booth.as_value())),
        ]
        self._booth(m, booth)
        self._detect(m, detected)
        return m

    def _booth(self, m: Module, term: data.View) -> None:
        """Recode two bits, with the one below them, of the code aligned so that its first digit is the topmost."""
        aligned = Signal(8)
        with m.Switch(self.precision):
            for precision, width, digits in ((WeightPrecision.INT6, 6, 3), (WeightPrecision.INT5, 5, 3),
                                             (WeightPrecision.INT4, 4, 2), (WeightPrecision.INT3, 3, 2)):
                with m.Case(precision):
                    m.d.comb += aligned.eq(self.code[:width].as_signed() << (8 - 2 * digits))
            with m.Default():
                m.d.comb += aligned.eq(self.code)
        window = Signal(3)
        padded = Cat(C(0, 1), aligned)
        m.d.comb += window.eq(Array(padded[6 - 2 * index:9 - 2 * index] for index in range(4))[self.index])
        low, middle, high = window
        m.d.comb += [
            term.man.eq(~(window.all() | ~window.any())),
            term.exp.eq((low == middle) & (middle != high)),        # ±2
            term.sign.eq(high & ~(low & middle)),
        ]

    def _detect(self, m: Module, term: data.View) -> None:
        """Find the two ones of the magnitude."""
        magnitude = Signal(SPECIAL_MAGNITUDE_WIDTH)
        sign, is_special = Signal(), Signal()
        with m.If(self.precision == WeightPrecision.FP4):
            m.d.comb += [
                magnitude.eq(Array(C(value, SPECIAL_MAGNITUDE_WIDTH) for value in _FP4_MAGNITUDES)[self.code[:3]]),
                sign.eq(self.code[3]), is_special.eq(self.code[:4] == 0b1000),
            ]
        with m.Else():
            m.d.comb += [
                magnitude.eq(Array(C(value, SPECIAL_MAGNITUDE_WIDTH) for value in _FP3_MAGNITUDES)[self.code[:2]]),
                sign.eq(self.code[2]), is_special.eq(self.code[:3] == 0b100),
            ]
        with m.If(is_special):
            m.d.comb += [magnitude.eq(self.special.magnitude), sign.eq(self.special.sign)]

        first, rest = Signal(4), Signal(4)
        leading = Signal(4)
        m.d.comb += first.eq(magnitude[1:])
        for place in range(4):
            m.d.comb += leading[place].eq(first[place] & ~first[place + 1:].any())
        m.d.comb += rest.eq(magnitude[:4] & ~Cat(C(0, 1), leading[:3]))
        seen = Mux(self.index == 0, first, rest)
        m.d.comb += [
            term.man.eq(seen.any()),
            term.exp.eq(Cat(seen[3] | (seen[1] & ~seen[2]), seen[2:].any())),
            term.sign.eq(sign & seen.any()),
        ]
