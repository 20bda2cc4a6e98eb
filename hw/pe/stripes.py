"""Stripes PE: bit-serial weights without any sparsity, what BitVert is measured against."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StripesPE", "stripes_control_layout"]

stripes_control_layout = data.StructLayout({
    "valid": 1, "sign": 1, "first": 1, "double": 1, "add": 1, "fresh": 1, "take": 1})
"""What all PEs are told. `valid`: a column comes; `sign`: of signs; `first`: products start with it, `double`: it is worth half
of the one before. A cycle after the last one: `add` the products, to zero where `fresh`. A cycle later: `take` the sum."""


class StripesPE(wiring.Component):
    """psum += Σ activation · weight, one bit of each weight a cycle, the sign first: 8 cycles for `lanes` weights.

    Products grow as 2p + Σ of the column's activations, so that there is no shifter; they are added to the sum `latency` cycles
    after their last column came. Columns of more weights than lanes come in `parts`, of which only the first doubles.

    Parameters
    ----------
    lanes : int
        Weights of a column, a power of two.
    psum_width : int
    parts : int
        1, or 2 for columns of 2 · `lanes`; only then does `double` count.

    Members
    -------
    control : In(`stripes_control_layout`)
    column : In(lanes), activations : In(lanes × signed(8))
    result : Out(signed(psum_width))

    Reference
    ---------
    Judd et al., Stripes, MICRO 2016. Differs: weights are serial, not activations, as in the BBS paper's comparison.
    """

    latency = 2

    def __init__(self, *, lanes: int = 8, psum_width: int, parts: int = 1):
        self.lanes, self.psum_width, self.parts = lanes, psum_width, parts
        super().__init__({
            "control": In(stripes_control_layout),
            "column": In(lanes),
            "activations": In(data.ArrayLayout(signed(8), lanes)),
            "result": Out(signed(psum_width)),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the PE."""
        return f"pe_stripes_l{self.lanes}x{self.parts}_p{self.psum_width}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        level: list[Value] = [Mux(self.column[index], self.activations[index], C(0, signed(8))) for index in range(self.lanes)]
        while len(level) > 1:
            level = [a + b for a, b in zip(level[::2], level[1::2], strict=True)]
        column = Signal(level[0].shape())
        products = Signal(signed(len(column) + 7 + self.parts), reset_less=True)
        doubled = products << 1 if self.parts == 1 else Mux(self.control.double, products << 1, products)
        before = Mux(self.control.first, 0, doubled)
        psum = Signal(signed(self.psum_width), reset_less=True)
        m.d.comb += column.eq(level[0])
        with m.If(self.control.valid):
            m.d.sync += products.eq(Mux(self.control.sign, before - column, before + column))
        with m.If(self.control.add):
            m.d.sync += psum.eq(Mux(self.control.fresh, 0, psum) + products)
        with m.If(self.control.take):
            m.d.sync += self.result.eq(psum)
        return m
