"""Decoder of scaled formats: the codes of a block and its scale → significands and exponents, exact."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.element import ElementDecoder
from hw.arith.decode.form import ElementForm
from hw.elements import Integer
from hw.errors import ConfigError
from hw.families import ScaledFormat

__all__ = ["ScaledDecoder", "element_forms", "scaled_members"]


def element_forms(fmt: ScaledFormat, programmable: bool = False) -> tuple[ElementForm, ElementForm | None]:
    """Return how the elements of a format are decoded, and its block scales."""
    return (ElementForm(element=fmt.element, specials=fmt.specials, special_code=fmt.special_code, programmable=programmable),
            None if fmt.scale is None else ElementForm(element=fmt.scale))


def _significand_width(fmt: ScaledFormat, element: ElementForm) -> int:
    """Return the bits of element − zero point."""
    if not fmt.zero_point_bits:
        return element.significand_width
    signed_element = isinstance(fmt.element, Integer) and fmt.element.signed     # the sign bit of an unsigned one has room
    return max(element.significand_width, fmt.zero_point_bits + 1) + signed_element


def scaled_members(fmt: ScaledFormat, lanes: int, programmable: bool = False) -> dict[str, Any]:
    """Return the members of a `ScaledDecoder`; parameters are checked."""
    if lanes < 1:
        raise ConfigError(f"ScaledDecoder.lanes must be at least 1, not {lanes!r}")
    if fmt.zero_point_bits and (not isinstance(fmt.element, Integer) or fmt.element.fraction_bits or fmt.specials):
        raise ConfigError(f"ScaledDecoder.fmt must have no zero point with {fmt.element.name} or special values, "
                          f"not {fmt.zero_point_bits} bits")
    element, scale = element_forms(fmt, programmable)
    members: dict[str, Any] = {
        "codes": In(data.ArrayLayout(fmt.element.bits, lanes)),
        "significand": Out(data.ArrayLayout(signed(_significand_width(fmt, element)), lanes)),
        "negative": Out(lanes),
    }
    if fmt.special_bits:
        members["special"] = In(fmt.special_bits)
    if programmable:
        members["special_values"] = In(data.ArrayLayout(signed(element.significand_width), len(fmt.specials)))
    if element.exponent_width:
        members["exponent"] = Out(data.ArrayLayout(element.exponent_width, lanes))
    members |= {name: Out(lanes) for name, has in (("nan", element.has_nan), ("inf", element.has_inf)) if has}
    if fmt.zero_point_bits:
        members["zero_point"] = In(fmt.zero_point_bits)
    if scale is not None:
        members |= {"scale": In(scale.element.bits), "scale_significand": Out(signed(scale.significand_width)),
                    "scale_negative": Out(1)}
        widths = {"exponent": scale.exponent_width, "nan": int(scale.has_nan), "inf": int(scale.has_inf)}
        members |= {f"scale_{name}": Out(width) for name, width in widths.items() if width}
    return members


class ScaledDecoder(wiring.Component):
    """Decoder of scaled formats: `lanes` codes of one block, and its scale. Combinational.

    element − zero point = significand · 2^(exponent + lsb) of each lane, block scale = scale_significand · 2^(scale_exponent +
    scale_lsb), each exactly: what multiplies them, or keeps them apart until the sum over a block is done, is the consumer's.
    The outer scale (`ScaledFormat.outer`) is the consumer's too.

    Parameters
    ----------
    fmt : ScaledFormat
    lanes : int
        Codes decoded at once, at least 1.
    programmable : bool
        Special values come from a port instead of `fmt.specials` (`ElementDecoder`).

    Members
    -------
    codes : In(ArrayLayout(element bits, lanes))
    special : In(fmt.special_bits)
        Which special value; only with more than one.
    special_values : In(ArrayLayout(signed(significand_width), specials))
        In units of 2^lsb; only where programmable.
    zero_point : In(fmt.zero_point_bits)
        Only where the format has one.
    scale : In(scale bits)
        The stored code; this and the following only with a block scale.
    scale_significand : Out(signed(scale_significand_width))
    scale_exponent : Out(scale_exponent_width)
        Unsigned; only where `scale_exponent_width` is not 0.
    scale_negative, scale_nan, scale_inf : Out(1)
        The latter two only where the scale's element has them.
    significand : Out(ArrayLayout(signed(significand_width), lanes))
    exponent : Out(ArrayLayout(exponent_width, lanes))
        Unsigned; only where `exponent_width` is not 0.
    negative, nan, inf : Out(lanes)
        Bit i is of lane i; the latter two only where the element has them.

    Attributes
    ----------
    significand_width, exponent_width, lsb, scale_significand_width, scale_exponent_width, scale_lsb : int
        Without a block scale the latter three are 0.
    element : ElementForm
        Of a code, without the zero point.
    scale_element : ElementForm or None

    Raises
    ------
    ConfigError
        If `lanes` is not positive, or a zero point belongs to an element that is no integer, or to one with special values.
    """

    def __init__(self, fmt: ScaledFormat, lanes: int = 1, *, programmable: bool = False):
        self._fmt, self._lanes, self._programmable = fmt, lanes, programmable
        super().__init__(scaled_members(fmt, lanes, programmable))
        self.element, self.scale_element = element_forms(fmt, programmable)
        self.significand_width = _significand_width(fmt, self.element)
        self.exponent_width, self.lsb = self.element.exponent_width, self.element.lsb
        self.scale_significand_width = self.scale_exponent_width = self.scale_lsb = 0
        if self.scale_element is not None:
            self.scale_significand_width = self.scale_element.significand_width
            self.scale_exponent_width, self.scale_lsb = self.scale_element.exponent_width, self.scale_element.lsb

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        for lane in range(self._lanes):
            m.submodules[f"element_{lane}"] = element = ElementDecoder(
                fmt.element, fmt.specials, fmt.special_code, programmable=self._programmable)
            names = element.signature.members
            m.d.comb += element.code.eq(self.codes[lane])
            m.d.comb += [getattr(element, name).eq(getattr(self, name))
                         for name in ("special", "special_values") if name in names]
            m.d.comb += [getattr(self, name)[lane].eq(getattr(element, name))
                         for name in ("exponent", "nan", "inf") if name in names]
            if fmt.zero_point_bits:
                difference = Signal(signed(self.significand_width), name=f"difference_{lane}")
                m.d.comb += [
                    difference.eq(element.significand - self.zero_point),
                    self.significand[lane].eq(difference),
                    self.negative[lane].eq(difference[-1]),
                ]
            else:
                m.d.comb += [self.significand[lane].eq(element.significand), self.negative[lane].eq(element.negative)]
        if fmt.scale is not None:
            m.submodules.scale = scale = ElementDecoder(fmt.scale)
            m.d.comb += scale.code.eq(self.scale)
            m.d.comb += [getattr(self, f"scale_{name}").eq(getattr(scale, name))
                         for name in scale.signature.members if name != "code"]
        return m
