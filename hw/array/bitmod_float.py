"""Products of a BitMoD PE with floating-point activations as float32 words."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_round import FloatRound
from hw.elements import FP32
from hw.pe.bitmod.shape import BitmodShape

__all__ = ["ProductToFloat"]


class ProductToFloat(wiring.Component):
    """A group's product, mantissa and exponent, as float32: to nearest, ties to even; subnormal numbers become zero.

    Latency `latency` cycles, initiation interval 1.

    Parameters
    ----------
    shape : BitmodShape

    Members
    -------
    product : In(signed(product_width)), exponent : In(exponent_width)
        The latter only of float activations.
    integer : In(1)
        Weights were integers: the product is in whole units, else in halves.
    o : Out(32)
    """

    latency = 2

    def __init__(self, shape: BitmodShape):
        self._shape = shape
        members: dict[str, Any] = {"product": In(signed(shape.product_width)), "integer": In(1), "o": Out(FP32.bits)}
        if shape.is_float:
            members["exponent"] = In(shape.exponent_width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = self._shape.product_width
        exponent = (self.exponent if self._shape.is_float else C(0, 1)) + self.integer
        m.submodules.round = rounding = FloatRound(fmt=FP32, width=width, exponent_width=len(exponent), lsb=self._shape.lsb - 1,
                                                   subnormals=False)
        assert rounding.latency == self.latency
        m.d.comb += [
            rounding.enable.eq(1), rounding.magnitude.eq(Mux(self.product[-1], -self.product, self.product)[:width]),
            rounding.negative.eq(self.product[-1]), rounding.exponent.eq(exponent), self.o.eq(rounding.o),
        ]
        return m
