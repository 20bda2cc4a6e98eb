"""FP4 (E2M1) in integers: products, and the rounding of int8 activations to it."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.hss_shape import CODE_BITS, SHIFT_BITS

__all__ = ["SHIFT_MAX", "Fp4Quantizer", "fp4_product"]

SHIFT_MAX = 4               # 8 · 2**4 is the magnitude of −128
_BOUNDS = ((1, False), (3, True), (5, False), (7, True), (10, False), (14, True), (20, False))
"""Twice the magnitude from which on the next of 0, 1, 2, 3, 4, 6, 8, 12 is nearer, and whether it is taken at just that: it is
where its mantissa bit is 0, so ties go to even."""


def fp4_product(a: Value, b: Value) -> Value:
    """Return the product of two FP4 codes in quarters, an exact integer of 9 bits: −144 … 144."""
    def parts(code: Value) -> tuple[Value, Value]:
        exponent = code[1:3]
        return Cat(code[0], exponent.any()), Mux(exponent.any(), exponent - 1, 0)[:2]

    (left, left_shift), (right, right_shift) = parts(a), parts(b)
    magnitude = ((left * right) << (left_shift + right_shift))[:8]
    return Mux(a[3] ^ b[3], -magnitude, magnitude)


class Fp4Quantizer(wiring.Component):
    """Rounds a group of int8 values to FP4 in units of a power of two: the least that lets the largest of them fit 12 units.

    To nearest, ties to the even mantissa. Combinational.

    Members
    -------
    i : In(lanes × signed(8))
    codes : Out(lanes × unsigned(4))
        E2M1; in units of 2**shift they are 0, 1, 2, 3, 4, 6, 8, 12.
    shift : Out(range(5))
    """

    def __init__(self, *, lanes: int):
        self.lanes = lanes
        super().__init__({
            "i": In(data.ArrayLayout(signed(8), lanes)),
            "codes": Out(data.ArrayLayout(unsigned(CODE_BITS), lanes)),
            "shift": Out(SHIFT_BITS),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        magnitudes = [Signal(8, name=f"magnitude_{lane}") for lane in range(self.lanes)]
        for lane, magnitude in enumerate(magnitudes):
            m.d.comb += magnitude.eq(Mux(self.i[lane] < 0, -self.i[lane], self.i[lane]))
        for shift in range(SHIFT_MAX):
            with m.If(Cat(magnitude > 12 << shift for magnitude in magnitudes).any()):
                m.d.comb += self.shift.eq(shift + 1)
        for lane, magnitude in enumerate(magnitudes):
            scaled = Signal(8 + 1 + SHIFT_MAX, name=f"scaled_{lane}")       # twice the magnitude, in units of 2**(shift − 4)
            m.d.comb += scaled.eq((magnitude << 1) << (SHIFT_MAX - self.shift)[:SHIFT_BITS])
            for code, (bound, from_there) in enumerate(_BOUNDS, 1):
                limit = bound << SHIFT_MAX
                with m.If(scaled >= limit if from_there else scaled > limit):
                    m.d.comb += self.codes[lane][:3].eq(code)
            m.d.comb += self.codes[lane][3].eq(self.i[lane] < 0)
        return m
