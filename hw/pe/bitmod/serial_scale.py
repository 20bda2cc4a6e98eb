"""Bit-serial multiplication of a group's sum by its scale."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["SerialScale"]


class SerialScale(wiring.Component):
    """Sum times scale, one bit of the scale a cycle, the highest first: o = i · scale, exact.

    `start` takes `i`. In `bits` cycles after it with `step` high, the first of them with `first` too, `scale_bit` is one bit of
    the scale; in the cycle after the last one `o` is there, and it stays until a step later than the next `first`. The next
    start may come with the last bit, so that groups of `bits` cycles follow each other without a gap.

    Parameters
    ----------
    width : int
        Bits of the sum, two's complement.
    bits : int
        Bits of the scale, unsigned; at least 1.

    Members
    -------
    start : In(1), i : In(signed(width))
    step, first, scale_bit : In(1)
    o : Out(signed(width + bits))

    Raises
    ------
    ConfigError
        If a width is not positive.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Fig. 5 (dequantization: eight cycles, hidden behind the next group).
    """

    def __init__(self, *, width: int, bits: int):
        for name, value in (("width", width), ("bits", bits)):
            if value < 1:
                raise ConfigError(f"SerialScale.{name} must be at least 1, not {value!r}")
        self._width, self._bits = width, bits
        super().__init__({
            "start": In(1),
            "i": In(signed(width)),
            "step": In(1),
            "first": In(1),
            "scale_bit": In(1),
            "o": Out(signed(width + bits)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(signed(self._width), reset_less=True)
        product = Signal(signed(self._width + self._bits), reset_less=True)
        m.d.comb += self.o.eq(product)
        with m.If(self.step):
            m.d.sync += product.eq((Mux(self.first, 0, product) << 1) + Mux(self.scale_bit, held, 0))
        with m.If(self.start):
            m.d.sync += held.eq(self.i)
        return m
