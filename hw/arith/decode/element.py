"""Decoder of one element: a code → a signed significand and an exponent, exact."""

import math
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.form import ElementForm
from hw.elements import Codebook, Element, FloatFormat, Integer

__all__ = ["ElementDecoder"]


class ElementDecoder(wiring.Component):
    """Element decoder: value = significand · 2^(exponent + lsb), exactly. Combinational.

    Fixed point (integers, codebooks, floats of up to 2 exponent bits, or where `fixed` asks for it) has no exponent: the value is
    significand · 2^lsb. The significand of a float is its fraction with the leading one or without (subnormal values), negated
    by its sign; its exponent is the stored one, at least 1 where there are subnormal values, so that nothing is added: `lsb`
    holds the bias. Only codebooks are tables.

    ============================  ===========  ========  ========
    element                       significand  exponent   lsb
    ============================  ===========  ========  ========
    int4, uint4                   4, 5         none      0
    mxint4, mxint8                4, 8         none      −2, −6
    float3_e2m0, + specials ±6    4, 4         none      0
    float4_e2m1fn, + specials ±8  5, 6         none      −1
    float6_e2m3fn                 7            none      −3
    float6_e3m2fn                 4            3         −5
    float8_e4m3fn                 5            4         −10
    the same, fraction_bits=4     6            4         −11
    float8_s0e4m4                 6            4         −19
    float8_e8m0fnu                2            8         −127
    nf4, sf4                      29, 28       none      −27, −26
    ============================  ===========  ========  ========

    Parameters
    ----------
    element : Element
    specials : tuple of float
        Values that `special_code` stands for instead of its own; more than one: a port chooses. Fixed point only.
    special_code : int
    programmable : bool
        The special values come from a port, a register file for instance; `specials` then says how many there are and which must
        fit.
    fraction_bits : int or None
        Fraction bits of a float's significand, at least its own: zeros below align it with another format.
    fixed : bool or None
        Whether a float becomes fixed point; None: if it has up to 2 exponent bits.

    Members
    -------
    code : In(element.bits)
    special : In(⌈log2(specials)⌉)
        Which special value, an index beyond the last one meaning the first; only with more than one.
    special_values : In(ArrayLayout(signed(significand_width), specials))
        In units of 2^lsb; only where programmable.
    significand : Out(signed(significand_width))
        Of NaN and infinities without meaning.
    exponent : Out(exponent_width)
        Unsigned; only where `exponent_width` is not 0.
    negative : Out(1)
        Sign of the value, that of −0 and −Inf included.
    nan, inf : Out(1)
        Only where the element has them.

    Attributes
    ----------
    significand_width, exponent_width, lsb : int
    form : ElementForm
        These and more, without a component.

    Raises
    ------
    ConfigError
        If a parameter does not suit the element.

    Reference
    ---------
    Special values: Chen et al., BitMoD, HPCA 2025; Chen et al., RaZeR, arXiv 2501.04052 (signed 6-bit half units); the authors
    of both state that a patent application has been filed. Widths of E4M3 (fraction_bits=4) and S0E4M4: Chen et al.,
    P3-LLM, arXiv 2511.06838. Differs: codebooks are exact, not rounded.
    """

    def __init__(self, element: Element, specials: tuple[float, ...] = (), special_code: int = 0, *, programmable: bool = False,
                 fraction_bits: int | None = None, fixed: bool | None = None):
        self.form = ElementForm(element=element, specials=specials, special_code=special_code, programmable=programmable,
                                fraction_bits=fraction_bits, fixed=fixed)
        form = self.form
        self.significand_width, self.exponent_width, self.lsb = form.significand_width, form.exponent_width, form.lsb
        shape = signed(form.significand_width)
        members: dict[str, Any] = {"code": In(element.bits), "significand": Out(shape), "negative": Out(1)}
        if len(specials) > 1:
            members["special"] = In(range(len(specials)))
        if programmable:
            members["special_values"] = In(data.ArrayLayout(shape, len(specials)))
        if form.exponent_width:
            members["exponent"] = Out(form.exponent_width)
        members |= {name: Out(1) for name, has in (("nan", form.has_nan), ("inf", form.has_inf)) if has}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        form, element = self.form, self.form.element
        significand = Signal(signed(form.significand_width))
        negative = Signal()
        if isinstance(element, Integer):
            integer = self.code.as_signed() if element.signed else Cat(self.code, 0).as_signed()
            m.d.comb += [significand.eq(integer << (form.own_lsb - form.lsb)), negative.eq(significand[-1])]
        elif isinstance(element, Codebook):
            with m.Switch(self.code):
                for code, value in enumerate(element.levels):
                    with m.Case(code):
                        m.d.comb += [significand.eq(int(math.ldexp(value, -form.lsb))), negative.eq(math.copysign(1, value) < 0)]
        else:
            assert isinstance(element, FloatFormat)
            self._decode_float(m, element, significand, negative)
        m.d.comb += [self.significand.eq(significand), self.negative.eq(negative)]
        if form.specials:
            with m.If(self.code == form.special_code):
                chosen = self._special(m)
                m.d.comb += [self.significand.eq(chosen), self.negative.eq(chosen[-1])]
        return m

    def _decode_float(self, m: Module, element: FloatFormat, significand: Signal, negative: Signal) -> None:
        """Take the fields apart; put the leading one back."""
        form = self.form
        mantissa = self.code[:element.mantissa_bits]
        exponent = self.code[element.mantissa_bits:][:element.exponent_bits]
        sign = self.code[-1] if element.signed else C(0, 1)
        normal = exponent.any() if element.subnormals else C(1, 1)
        magnitude: Value = Cat(C(0, form.padding + form.own_lsb - form.lsb), mantissa, normal)
        if form.is_fixed:
            shift = Signal(range(form.highest_exponent + 1))
            m.d.comb += shift.eq(exponent - normal if element.subnormals else exponent)
            magnitude = (magnitude << shift)[:form.significand_width - 1]
        else:
            m.d.comb += self.exponent.eq(Cat(exponent[0] | ~normal, exponent[1:]))
        m.d.comb += [significand.eq(Mux(sign, -magnitude, magnitude)), negative.eq(sign)]
        if form.has_inf:
            m.d.comb += [self.inf.eq(exponent.all() & ~mantissa.any()), self.nan.eq(exponent.all() & mantissa.any())]
        elif form.has_nan:
            m.d.comb += self.nan.eq(Cat(mantissa, exponent).all())

    def _special(self, m: Module) -> Signal:
        """Return the chosen special value in units of 2^lsb."""
        form = self.form
        chosen = Signal(signed(form.significand_width))
        values = [self.special_values[i] if form.programmable else C(level, chosen.shape())
                  for i, level in enumerate(form.levels)]
        m.d.comb += chosen.eq(values[0])
        if len(values) > 1:
            with m.Switch(self.special):
                for index, value in enumerate(values[1:], 1):
                    with m.Case(index):
                        m.d.comb += chosen.eq(value)
        return chosen
