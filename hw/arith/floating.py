"""Floating-point words in hardware: the packed layout of a `FloatFormat`, its fields taken apart, and its special words."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import data

from hw.elements import FloatFormat, Specials
from hw.errors import ConfigError

__all__ = ["Unpacked", "before", "check_format", "float_layout", "infinity", "largest", "quiet_nan", "unpack"]


def check_format(where: str, fmt: FloatFormat) -> None:
    """Check that `fmt` is one that arithmetic can use.

    Parameters
    ----------
    where : str
        What the format is of, as ``Block.parameter``.
    fmt : FloatFormat

    Raises
    ------
    ConfigError
        If the format has no sign, no zero or no fraction, or is wider than the golden models' float64 can prove right.
    """
    if not fmt.signed or not fmt.subnormals or not 1 <= fmt.mantissa_bits <= 24 or not 2 <= fmt.exponent_bits <= 8:
        raise ConfigError(f"{where} must have a sign, a zero, 1 to 24 mantissa bits and 2 to 8 exponent bits, not {fmt.name!r}")


def float_layout(fmt: FloatFormat) -> data.StructLayout:
    """Return the packed layout of `fmt`: mantissa from bit 0, exponent, sign on top."""
    return data.StructLayout({"mantissa": fmt.mantissa_bits, "exponent": fmt.exponent_bits, "sign": 1})


class Unpacked(NamedTuple):
    """A word taken apart: (−1)^sign · significand · 2^(exponent − bias − mantissa_bits), unless it is special.

    Attributes
    ----------
    sign : Value
    significand : Value
        mantissa_bits + 1 wide. Its top bit is 0 for zero and subnormal values.
    exponent : Value
        As stored, but 1 where 0 is stored.
    zero, inf, nan : Value
        Constant 0 where the format has no such word.
    """

    sign: Value
    significand: Value
    exponent: Value
    zero: Value
    inf: Value
    nan: Value


def unpack(fmt: FloatFormat, word: data.View, *, subnormals: bool) -> Unpacked:
    """Return the parts of `word`; without `subnormals`, a subnormal value is a zero of its sign."""
    normal = word.exponent.any()
    mantissa = word.mantissa if subnormals else word.mantissa & normal.replicate(fmt.mantissa_bits)
    top = word.exponent.all()
    return Unpacked(
        sign=word.sign, significand=Cat(mantissa, normal), exponent=word.exponent | ~normal,
        zero=~normal & (word.mantissa == 0) if subnormals else ~normal,
        inf=top & (word.mantissa == 0) if fmt.specials is Specials.IEEE else C(0, 1),
        nan=(top & word.mantissa.any() if fmt.specials is Specials.IEEE
             else top & word.mantissa.all() if fmt.specials is Specials.NAN else C(0, 1)))


def quiet_nan(fmt: FloatFormat) -> data.Const:
    """Return the one NaN that our blocks make: positive, quiet, no payload; +0 where the format has no NaN."""
    if fmt.specials is Specials.NONE:
        return _word(fmt, 0)
    mantissa = 1 << (fmt.mantissa_bits - 1) if fmt.specials is Specials.IEEE else (1 << fmt.mantissa_bits) - 1
    return _word(fmt, fmt.exponent_max << fmt.mantissa_bits | mantissa)


def infinity(fmt: FloatFormat) -> data.Const:
    """Return what a positive value that is too large becomes: Inf, else NaN, else the largest value, as the format has them."""
    if fmt.specials is Specials.IEEE:
        return _word(fmt, fmt.exponent_max << fmt.mantissa_bits)
    return quiet_nan(fmt) if fmt.specials is Specials.NAN else largest(fmt)


def largest(fmt: FloatFormat) -> data.Const:
    """Return the largest finite word."""
    unused = {Specials.IEEE: 1 << fmt.mantissa_bits, Specials.NAN: 1, Specials.NONE: 0}[fmt.specials]
    return _word(fmt, (1 << (fmt.exponent_bits + fmt.mantissa_bits)) - 1 - unused)


def _word(fmt: FloatFormat, bits: int) -> data.Const:
    return float_layout(fmt).from_bits(bits)


def before(a: data.View, b: data.View) -> Value:
    """Return whether `a` stands before `b` in −Inf … −0, +0 … Inf; neither is NaN."""
    left, right = Cat(a.mantissa, a.exponent), Cat(b.mantissa, b.exponent)
    return Mux(a.sign, ~b.sign | (left > right), ~b.sign & (left < right))
