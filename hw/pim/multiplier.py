"""Multiplier of a PIM lane: stored codes of a weight and of an element of X → their product, exact, as FP32 or as an integer."""

from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.element import ElementDecoder
from hw.arith.decode.form import ElementForm
from hw.arith.float_round import FloatRound
from hw.arith.floating import float_layout
from hw.arith.pipeline import registered
from hw.elements import FP32, Element, FloatFormat, Integer
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import format_named

__all__ = ["ACC_WIDTH", "Multiplier", "Operand", "check_operands", "operand_named"]

ACC_WIDTH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Operand:
    """One way to read a code.

    Attributes
    ----------
    element : Element
    specials : tuple of float
        Values that the special code may stand for; which one comes with the code.
    special_code : int
    zero_point_bits : int
        Of the zero point that is taken from the code, 0: none.
    """

    element: Element
    specials: tuple[float, ...] = ()
    special_code: int = 0
    zero_point_bits: int = 0

    @property
    def fraction_bits(self) -> int | None:
        """Fraction bits of the significand: E4M3 is aligned with S0E4M4, as P3-LLM's multiplier takes both."""
        return 4 if self.element.name == "float8_e4m3fn" else None

    def form(self) -> ElementForm:
        """Return what the decoder makes of the code."""
        return ElementForm(element=self.element, specials=self.specials, special_code=self.special_code,
                           fraction_bits=self.fraction_bits)

    def decoder(self) -> ElementDecoder:
        """Return a decoder of the code; floats of more than 2 exponent bits keep their exponent."""
        return ElementDecoder(self.element, self.specials, self.special_code, fraction_bits=self.fraction_bits)


def operand_named(name: str) -> Operand:
    """Return how codes of a format of `hw.formats` are read: element, special values and zero point; scales are not applied."""
    fmt = format_named(name)
    if not isinstance(fmt, ScaledFormat) or not isinstance(fmt.element, (FloatFormat, Integer)):
        raise ConfigError(f"a PIM operand must be of a format of integers or floats with scales, not {name!r}")
    return Operand(element=fmt.element, specials=fmt.specials, special_code=fmt.special_code, zero_point_bits=fmt.zero_point_bits)


def check_operands(weights: tuple[Operand, ...], xs: tuple[Operand, ...], acc: str) -> None:
    """Raise what `Multiplier` does."""
    if acc not in Multiplier.LATENCY:
        raise ConfigError(f"Multiplier.acc must be float32 or int32, not {acc!r}")
    if len(weights) != len(xs) or not weights or (acc == "float32" and len(weights) > 1):
        raise ConfigError(f"Multiplier.xs must be one for each of weights, and one alone with float32, "
                          f"not {len(xs)} for {len(weights)}")
    for name, ways in (("weights", weights), ("xs", xs)):
        if len({way.element.bits for way in ways}) > 1:
            raise ConfigError(f"Multiplier.{name} must be of one width, not {', '.join(way.element.name for way in ways)}")
    if acc == "int32":
        wide = [(weight.element.name, x.element.name) for weight, x in zip(weights, xs, strict=True)
                if _integer_width(weight) + _integer_width(x) > ACC_WIDTH]
        if wide:
            raise ConfigError(f"Multiplier.acc must be float32 for products of more than {ACC_WIDTH} bits, not 'int32' "
                              f"({' × '.join(wide[0])})")


def _integer_width(way: Operand) -> int:
    """Return the bits of an operand's value as an integer, its exponent shifted out."""
    form = way.form()
    return form.significand_width + (1 << form.exponent_width) - 1


class Multiplier(wiring.Component):
    """Product of a weight and an element of X: one small integer multiplier for all formats.

    Both codes become significand · 2^exponent. With `acc` "float32" the product is rounded once to FP32, which is exact but
    where a product of two bfloat16 leaves its range; subnormal ones are kept. With "int32" it is the significands' product
    shifted left by the exponents, in units of 2^lsb of both decoders: E4M3 and S0E4M4 by 6-bit weights are 26 bits.

    Latency `latency` cycles (multiply; count zeros or shift; round), initiation interval 1; no reset.

    Parameters
    ----------
    weights, xs : tuple of Operand
        Ways to read a weight and an element of X, chosen by `select`; as many of each, all of one width each. More than one way
        only with "int32".
    acc : str
        "float32" or "int32".

    Members
    -------
    weight, x : In(code)
    select : In
        Which way to read both.
    zero_point : In(8), special : In(2)
        Of the weight.
    o : Out(32)
    invalid : Out(1)
        With "int32": an operand was NaN, which has no product; as if it were a number.

    Raises
    ------
    ConfigError
        If the ways do not fit together.
    """

    LATENCY = {"float32": 3, "int32": 2}

    def __init__(self, *, weights: tuple[Operand, ...], xs: tuple[Operand, ...], acc: str):
        check_operands(weights, xs, acc)
        self._weights, self._xs, self._acc = weights, xs, acc
        self.latency = self.LATENCY[acc]
        super().__init__({
            "weight": In(weights[0].element.bits), "x": In(xs[0].element.bits), "select": In(range(max(2, len(weights)))),
            "zero_point": In(8), "special": In(2), "o": Out(ACC_WIDTH), "invalid": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        weight = _Decoded(m, "weight", self.weight, self._weights, self.select, self.zero_point, self.special)
        x = _Decoded(m, "x", self.x, self._xs, self.select, C(0, 1), C(0, 1))
        exponent = weight.exponent + x.exponent
        if self._acc == "int32":
            product = registered(m, C(1, 1), weight.significand * x.significand, "product")
            shift = registered(m, C(1, 1), exponent, "shift")
            shifted = Signal(signed(ACC_WIDTH))
            m.d.comb += shifted.eq(product << shift)
            m.d.comb += [self.o.eq(registered(m, C(1, 1), shifted, "shifted")),
                         self.invalid.eq(registered(m, C(1, 1), weight.nan | x.nan | weight.inf | x.inf, "invalid", 2))]
            return m
        magnitude = registered(m, C(1, 1), weight.magnitude * x.magnitude, "magnitude")
        nan = weight.nan | x.nan | (weight.inf & (x.significand == 0)) | (x.inf & (weight.significand == 0))
        m.submodules.round = rounding = FloatRound(width=len(magnitude), exponent_width=len(exponent), lsb=weight.lsb + x.lsb)
        m.d.comb += [rounding.enable.eq(1), rounding.magnitude.eq(magnitude), self.o.eq(rounding.o)]
        for port, value in ((rounding.exponent, exponent), (rounding.negative, weight.negative ^ x.negative),
                            (rounding.nan, nan), (rounding.inf, weight.inf | x.inf)):
            m.d.comb += port.eq(registered(m, C(1, 1), value, port.name))
        assert rounding.latency == 2
        assert rounding.o.shape() == float_layout(FP32)
        return m


class _Decoded:
    """What the decoders of all ways make of a code, by the way that is chosen."""

    def __init__(self, m: Module, name: str, code: Value, ways: tuple[Operand, ...], select: Value, zero_point: Value,
                 special: Value):
        significands, exponents, negatives, nans, infs = [], [], [], [], []
        for index, way in enumerate(ways):
            m.submodules[f"{name}_{index}"] = decoder = way.decoder()
            m.d.comb += decoder.code.eq(code)
            if len(way.specials) > 1:
                m.d.comb += decoder.special.eq(special)
            significand, negative = decoder.significand, decoder.negative
            if way.zero_point_bits:
                significand = decoder.significand - zero_point[:way.zero_point_bits]
                negative = significand < 0
            significands.append(significand)
            negatives.append(negative)
            exponents.append(decoder.exponent if decoder.exponent_width else C(0, 1))
            nans.append(decoder.nan if decoder.form.has_nan else C(0, 1))
            infs.append(decoder.inf if decoder.form.has_inf else C(0, 1))
            self.lsb = decoder.lsb
        width = max(len(value) for value in significands)
        self.significand = Signal(signed(width), name=f"{name}_significand")
        self.exponent = Signal(max(len(value) for value in exponents), name=f"{name}_exponent")
        self.negative, self.nan, self.inf = (Signal(name=f"{name}_{kind}") for kind in ("negative", "nan", "inf"))
        for target, values in ((self.significand, significands), (self.exponent, exponents), (self.negative, negatives),
                               (self.nan, nans), (self.inf, infs)):
            m.d.comb += target.eq(Array(values)[select] if len(values) > 1 else values[0])
        self.magnitude = Signal(width, name=f"{name}_magnitude")
        m.d.comb += self.magnitude.eq(Mux(self.significand < 0, -self.significand, self.significand))
