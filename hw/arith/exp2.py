"""Powers of two with floating-point exponents."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.exp2_fixed import Exp2Fixed
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.curves import curve
from hw.elements import FloatFormat

__all__ = ["Exp2"]


class Exp2(wiring.Component):
    """Power of two: o = 2^i. e^x is 2^(x · log₂ e).

    The exponent is rounded to a fixed point of mantissa_bits + 2 fraction bits, and goes through `Exp2Fixed`: its errors and
    those of this rounding together stay below one unit in the last place with the curve by default. Monotonic; exact for
    integers; NaN gives NaN, −Inf gives 0. Subnormal arguments give 1. Latency 2 cycles more than `Exp2Fixed`, with `enable`
    high; initiation interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        Of the argument and the result, with 2 mantissa bits or more.
    subnormals : bool
        Results are subnormal, else flushed to zero.
    saturate : bool
        What is too large becomes the largest finite value.
    degree, segments_log2 : int or None
        Of the curve (`hw.curves.curve`).

    Members
    -------
    enable : In(1)
        0 holds every register.
    i, o : In, Out(`float_layout(fmt)`)

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`: 8 of float32, 6 of formats with fewer than 12 mantissa bits.

    Raises
    ------
    ConfigError
        If the format is not one for arithmetic (`check_format`), or the curve cannot be.
    """

    def __init__(self, *, fmt: FloatFormat, subnormals: bool = False, saturate: bool = False, degree: int | None = None,
                 segments_log2: int | None = None):
        check_format("Exp2.fmt", fmt)
        self._fmt = fmt
        self._parameters: dict[str, Any] = {"subnormals": subnormals, "saturate": saturate, "degree": degree,
                                            "segments_log2": segments_log2}
        self.latency = 4 + 2 * curve("exp2", fmt.mantissa_bits, degree=degree, segments_log2=segments_log2).degree
        super().__init__({"enable": In(1), "i": In(float_layout(fmt)), "o": Out(float_layout(fmt))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        fraction_bits = fmt.mantissa_bits + 2
        width = 1 + (fmt.bias + fmt.mantissa_bits + 2).bit_length() + fraction_bits     # reaches from zero to infinity
        m.submodules.to_int = to_int = FloatToInt(width=width, fmt=fmt, fraction_bits=fraction_bits, split=True)
        m.submodules.power = power = Exp2Fixed(width=width, fraction_bits=fraction_bits, fmt=fmt, **self._parameters)
        m.d.comb += [
            to_int.enable.eq(self.enable), to_int.i.eq(self.i), power.enable.eq(self.enable), power.i.eq(to_int.o),
            power.nan.eq(registered(m, self.enable, unpack(fmt, self.i, subnormals=True).nan, "nan", to_int.latency)),
            self.o.eq(power.o),
        ]
        return m
