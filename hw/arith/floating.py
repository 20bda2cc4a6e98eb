"""Floating-point words in hardware: the packed layout of a `FloatFormat`, and what its fields say."""

from amaranth import *
from amaranth.lib import data

from hw.elements import FloatFormat

__all__ = ["float_layout", "is_inf", "is_nan", "is_zero", "quiet_nan"]


def float_layout(fmt: FloatFormat) -> data.StructLayout:
    """Return the packed layout of `fmt`: mantissa from bit 0, exponent, sign on top."""
    return data.StructLayout({"mantissa": fmt.mantissa_bits, "exponent": fmt.exponent_bits, "sign": 1})


def is_zero(word: data.View) -> Value:
    """Return whether `word` counts as zero: subnormal values do."""
    return word.exponent == 0


def is_inf(word: data.View) -> Value:
    """Return whether `word` is an infinity."""
    return word.exponent.all() & (word.mantissa == 0)


def is_nan(word: data.View) -> Value:
    """Return whether `word` is a NaN, quiet or signalling."""
    return word.exponent.all() & word.mantissa.any()


def quiet_nan(fmt: FloatFormat) -> data.Const:
    """Return the one NaN that our blocks make: positive, quiet, no payload."""
    return float_layout(fmt).const({"mantissa": 1 << (fmt.mantissa_bits - 1), "exponent": fmt.exponent_max, "sign": 0})
