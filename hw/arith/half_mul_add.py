"""Multiply-add of float16 words into float32, rounded once."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout
from hw.arith.leading_zeros import LeadingZeroCount
from hw.arith.rounding import StickyShift, round_increment
from hw.elements import FP16, FP32

__all__ = ["HalfMulAdd"]

_SIGNIFICAND = FP16.mantissa_bits + 1
_PRODUCT = 2 * _SIGNIFICAND
_WINDOW = FP32.mantissa_bits + 1 + 3                        # a float32 significand with guard, round and sticky bit below it


class HalfMulAdd(wiring.Component):
    """Multiply-add of float16 words into float32: o = a · b + c, exact and then rounded once, to nearest, ties to even.

    A product of two float16 values is exact in float32 (22 bits), so this is a small multiplier before a float32 adder, and the
    result is that of float32 arithmetic: −0 only where both terms are −0, or −0 and a product of that sign. Subnormal words count
    as what they are; words must be finite: the top exponent is taken for one more binade. The result cannot overflow, nor be
    subnormal. Latency 5 cycles with `enable` high, initiation interval 1; no reset.

    It has a multiplier of 11×11 bits, an adder of 28, shifters of 22, 11, 27 and 28, and about 230 register bits; a sum in fixed
    point would be 81 bits wide.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b, c : In(`float_layout(FP16)`)
    o : Out(`float_layout(FP32)`)

    Attributes
    ----------
    latency : int
        Cycles from `a`, `b`, `c` to `o`.
    """

    latency = 5

    def __init__(self) -> None:
        word = float_layout(FP16)
        super().__init__({"enable": In(1), "a": In(word), "b": In(word), "c": In(word), "o": Out(float_layout(FP32))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def term(name: str, width: int) -> Any:
            """Return registers of ±significand · 2^(exponent − bias of float32), the point below the top bit."""
            layout = data.StructLayout({"significand": width, "exponent": FP32.exponent_bits, "sign": 1})
            return Signal(layout, name=name, reset_less=True)

        # Stage 1: multiply. The addend waits.
        product = term("product", _PRODUCT)
        addend = term("addend", _SIGNIFICAND)
        with m.If(self.enable):
            m.d.sync += [
                product.significand.eq(_significand(self.a) * _significand(self.b)),
                product.exponent.eq(_exponent(self.a) + _exponent(self.b) + FP32.bias - 2 * FP16.bias + 1),
                product.sign.eq(self.a.sign ^ self.b.sign),
                addend.significand.eq(_significand(self.c)),
                addend.exponent.eq(_exponent(self.c) + FP32.bias - FP16.bias),
                addend.sign.eq(self.c.sign),
            ]

        # Stage 2: normalize both; zero takes the least exponent, so that it is the smaller one.
        terms = []
        for name, raw in (("product", product), ("addend", addend)):
            width = len(raw.significand)
            m.submodules[f"{name}_zeros"] = zeros = LeadingZeroCount(width=width)
            m.d.comb += zeros.i.eq(raw.significand)
            normal = term(f"normal_{name}", width)
            nonzero = raw.significand.any()
            with m.If(self.enable):
                m.d.sync += [normal.significand.eq(raw.significand << zeros.o), normal.sign.eq(raw.sign),
                             normal.exponent.eq(Mux(nonzero, raw.exponent - zeros.o, 0))]
            terms.append(normal)

        # Stage 3: the larger magnitude ahead, the smaller one shifted down to its exponent.
        p, c = terms
        p_significand = Cat(C(0, _WINDOW - _PRODUCT), p.significand)
        c_significand = Cat(C(0, _WINDOW - _SIGNIFICAND), c.significand)
        swap = Cat(c_significand, c.exponent) > Cat(p_significand, p.exponent)
        m.submodules.align = align = StickyShift(width=_WINDOW, amount_width=FP32.exponent_bits)
        m.d.comb += [
            align.i.eq(Mux(swap, p_significand, c_significand)),
            align.amount.eq(Mux(swap, c.exponent - p.exponent, p.exponent - c.exponent)),
        ]
        large = term("large", _WINDOW)
        small = Signal(_WINDOW, reset_less=True)
        subtract = Signal(reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                large.significand.eq(Mux(swap, c_significand, p_significand)),
                large.exponent.eq(Mux(swap, c.exponent, p.exponent)),
                large.sign.eq(Mux(swap, c.sign, p.sign)),
                small.eq(align.o),
                subtract.eq(p.sign ^ c.sign),
            ]

        # Stage 4: add. Where terms cancel exactly, the zero is positive.
        total = term("total", _WINDOW + 1)
        added = Signal(_WINDOW + 1)
        m.d.comb += added.eq(Mux(subtract, large.significand - small, large.significand + small))
        with m.If(self.enable):
            m.d.sync += [total.significand.eq(added), total.exponent.eq(large.exponent + 1),
                         total.sign.eq(large.sign & (added.any() | ~subtract))]

        # Stage 5: normalize and round; the increment carries into the exponent. Only terms whose exponents differ by at most one
        # cancel more than one bit, and those lost nothing when they were aligned: no sticky bit moves up.
        m.submodules.total_zeros = zeros = LeadingZeroCount(width=_WINDOW + 1)
        normalized = Signal(_WINDOW + 1)
        drop = _WINDOW + 1 - (FP32.mantissa_bits + 1)
        rounded = Signal(FP32.exponent_bits + FP32.mantissa_bits)
        result = Signal(self.o.shape(), reset_less=True)
        m.d.comb += [
            zeros.i.eq(total.significand),
            normalized.eq(total.significand << zeros.o),
            rounded.eq(Cat(normalized[drop:-1], (total.exponent - zeros.o)[:FP32.exponent_bits])
                       + round_increment(normalized, drop)),
            self.o.eq(result),
        ]
        with m.If(self.enable):
            m.d.sync += [
                Cat(result.mantissa, result.exponent).eq(Mux(normalized[-1], rounded, 0)),
                result.sign.eq(total.sign),
            ]
        return m


def _significand(word: data.View) -> Value:
    return Cat(word.mantissa, word.exponent.any())


def _exponent(word: data.View) -> Value:
    """Return the stored exponent; a subnormal word has that of the smallest normal one."""
    return word.exponent | ~word.exponent.any()
