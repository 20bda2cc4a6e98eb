"""Exact product of two 16-bit floating-point words, as float32."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.arith.floating import float_layout, unpack
from hw.arith.pipeline import registered
from hw.elements import BF16, FP16, FP32, FloatFormat
from hw.errors import ConfigError

__all__ = ["FloatProduct", "product_latency"]


def product_latency(fmt: FloatFormat) -> int:
    """Return the cycles of a product: multiply; of float16 count leading zeros; normalize and round."""
    return 3 if fmt is FP16 else 2


class FloatProduct(wiring.Component):
    """Product of float16 or bfloat16 words as float32: a multiplier of 11×11 or 8×8 bits, without rounding.

    Where either word is zero the product is +0, also of NaN or an infinity: so operands that are masked to zero add nothing.
    Subnormal words of float16 count as what they are. Those of bfloat16, which are subnormal in float32 too, count as zero; so do
    its products below the smallest normal number, and products that are too large become infinities.

    Latency `latency` cycles with `enable` high (multiply; normalize and round, of float16 one more to count zeros); initiation
    interval 1; no reset.

    Parameters
    ----------
    fmt : FloatFormat
        float16 or bfloat16.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a, b : In(`float_layout(fmt)`)
    o : Out(`float_layout(FP32)`)

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If the format is another.
    """

    def __init__(self, *, fmt: FloatFormat):
        if fmt not in (FP16, BF16):
            raise ConfigError(f"FloatProduct.fmt must be float16 or bfloat16, not {fmt.name!r}")
        self._fmt = fmt
        self.latency = product_latency(fmt)
        word = float_layout(fmt)
        super().__init__({"enable": In(1), "a": In(word), "b": In(word), "o": Out(float_layout(FP32))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, gradual = self._fmt, self._fmt is FP16

        def held(value: Value, name: str) -> Value:
            return registered(m, self.enable, value, name)

        a, b = (unpack(fmt, word, subnormals=gradual) for word in (self.a, self.b))
        product = Signal(2 * (fmt.mantissa_bits + 1))
        nonzero = Signal()
        m.d.comb += [product.eq(a.significand * b.significand), nonzero.eq(~a.zero & ~b.zero)]
        m.submodules.round = rounding = FloatRound(
            fmt=FP32, width=len(product), exponent_width=fmt.exponent_bits + 1, lsb=-2 * (fmt.bias + fmt.mantissa_bits),
            subnormals=False, zeros=None if gradual else 1)
        assert self.latency == 1 + rounding.latency
        m.d.comb += [
            rounding.enable.eq(self.enable), rounding.magnitude.eq(held(Mux(nonzero, product, 0), "product")),
            rounding.exponent.eq(held(a.exponent + b.exponent, "exponent")),
            rounding.negative.eq(held(nonzero & (a.sign ^ b.sign), "negative")),
            rounding.inf.eq(held(nonzero & (a.inf | b.inf), "inf")), rounding.nan.eq(held(nonzero & (a.nan | b.nan), "nan")),
            self.o.eq(rounding.o),
        ]
        return m
