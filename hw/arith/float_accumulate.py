"""Running sums of floating-point numbers."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import check_format, float_layout, unpack
from hw.arith.pipeline import registered
from hw.elements import FP32, FloatFormat, Specials
from hw.errors import ConfigError

__all__ = ["FloatAccumulate", "exact_window"]

_MAX_WIDTH = 60


def exact_window(fmt: FloatFormat, terms_log2: int) -> tuple[int, int]:
    """Return width and fraction_bits of the window that holds any sum of 2^terms_log2 finite terms of `fmt` exactly."""
    fraction_bits = fmt.bias + fmt.mantissa_bits - 1
    magnitude_bits = fraction_bits + fmt.exponent_max - fmt.bias + (fmt.specials is not Specials.IEEE)
    return 1 + magnitude_bits + terms_log2, fraction_bits


class FloatAccumulate(wiring.Component):
    """Running sum of floating-point terms in a window of fixed point, one term a cycle.

    A floating-point adder takes several cycles, so that a chain of them either takes a term only so often or has as many sums
    side by side, whose order shows in the result. Here each term is rounded once to a multiple of 2^−fraction_bits (to nearest,
    ties to even), the sum of those is exact whatever their order, and what comes out is rounded once more. If the window
    reaches from the smallest subnormal term to the largest sum (`exact_window`), the result is the exact sum, rounded once.

    A sum beyond ±2^(width − 1 − fraction_bits), by a large term or by many, is an infinity from then on; so is one with an
    infinite term. NaN, or infinities of both signs, give NaN. The sum of nothing but zeros is +0. Subnormal terms count, and
    results may be subnormal.

    Latency 7 cycles with `enable` high (shift and round to fixed point; add; magnitude; count zeros; shift; round), initiation
    interval 1; no reset: `first` starts a sum. A shifter and an adder of `width` bits, a shifter and leading-zero count behind
    it.

    Parameters
    ----------
    fmt : FloatFormat
        Of the terms.
    target : FloatFormat
        Of the sums.
    width : int
        Bits of the window, sign included, 4 to 60: an addition of more does not fit a cycle. Exact windows of float16 (41 bits
        and one for each doubling of the terms) and of narrower formats fit; those of bfloat16 and float32 (278) do not.
    fraction_bits : int
        Of those, below the point.

    Members
    -------
    enable : In(1)
        0 holds every register.
    i : In(`float_layout(fmt)`)
    first : In(1)
        The sum starts with this term.
    o : Out(`float_layout(target)`)
        Sum of the terms from the first one up to this one.

    Attributes
    ----------
    latency : int
        Cycles from `i` to `o`.

    Raises
    ------
    ConfigError
        If `width` or `fraction_bits` is out of its range, or a format not one for arithmetic (`check_format`).

    References
    ----------
    Kulisch, Computer Arithmetic and Validity, 2008: the exact dot product in a long accumulator.
    """

    latency = 7

    def __init__(self, *, fmt: FloatFormat, width: int, fraction_bits: int, target: FloatFormat = FP32):
        check_format("FloatAccumulate.fmt", fmt)
        check_format("FloatAccumulate.target", target)
        if not 4 <= width <= _MAX_WIDTH:
            raise ConfigError(f"FloatAccumulate.width must be between 4 and {_MAX_WIDTH}, not {width!r}")
        if not 0 <= fraction_bits < width:
            raise ConfigError(f"FloatAccumulate.fraction_bits must be between 0 and width - 1 = {width - 1}, "
                              f"not {fraction_bits!r}")
        self._fmt, self._target, self._width, self._fraction_bits = fmt, target, width, fraction_bits
        super().__init__({"enable": In(1), "i": In(float_layout(fmt)), "first": In(1), "o": Out(float_layout(target))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = self._width

        # Stage 1: fixed point. Two more bits, so that a term that saturates leaves the window from any sum.
        i = unpack(self._fmt, self.i, subnormals=True)
        m.submodules.to_int = to_int = FloatToInt(width=width + 2, fmt=self._fmt, fraction_bits=self._fraction_bits,
                                                     split=True)
        m.d.comb += [to_int.enable.eq(self.enable), to_int.i.eq(self.i)]
        first, term_sign, term_inf, term_nan = (
            registered(m, self.enable, value, name, to_int.latency)
            for value, name in ((self.first, "first"), (i.sign, "term_sign"), (i.inf, "term_inf"), (i.nan, "term_nan")))

        # Stage 2: add.
        total = Signal(signed(width), reset_less=True)
        inf, negative, nan = (Signal(name=name, reset_less=True) for name in ("inf", "negative", "nan"))
        added = Signal(signed(width + 3))
        was_inf = inf & ~first
        m.d.comb += added.eq(Mux(first, 0, total) + to_int.o)
        with m.If(self.enable):
            m.d.sync += [
                total.eq(added),
                inf.eq(was_inf | (added[width - 1:] != added[-1].replicate(4))),
                negative.eq(Mux(was_inf, negative, added[-1])),
                nan.eq((nan & ~first) | term_nan | (was_inf & term_inf & (term_sign ^ negative))),
            ]

        # Stage 3: magnitude.
        m.submodules.round = rounding = FloatRound(fmt=self._target, width=width, exponent_width=0, lsb=-self._fraction_bits,
                                                   split=True)
        m.d.comb += [rounding.enable.eq(self.enable), self.o.eq(rounding.o)]
        for port, value in ((rounding.magnitude, Mux(total[-1], -total, total)[:width]), (rounding.negative, negative),
                            (rounding.inf, inf), (rounding.nan, nan)):
            m.d.comb += port.eq(registered(m, self.enable, value, port.name))
        return m
