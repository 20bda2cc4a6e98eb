"""One column's sums in a BitMoD tile: groups of each of its PEs, added in float32."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_add import FloatAdd
from hw.array.bitmod_float import ProductToFloat
from hw.elements import FP32
from hw.pe.bitmod.shape import BitmodShape

__all__ = ["ColumnSum"]


class ColumnSum(wiring.Component):
    """Column accumulator and its output buffer: a float32 sum for each of R PEs, groups added in order.

    Takes one product a cycle. It becomes float32, rounded to nearest, ties to even, and is added to what its row has so far;
    subnormal numbers count as zero. Latency `latency` cycles, initiation interval 1; the same row may come again after 7 cycles.

    Parameters
    ----------
    shape : BitmodShape
    rows : int
        R.

    Members
    -------
    valid : In(1), row : In(range(R))
        There is a product of this row.
    product : In(signed(product_width)), exponent : In(exponent_width)
        The latter only of float activations.
    integer : In(1)
        Weights were integers: the product is in whole units, else in halves.
    fresh : In(1)
        The first group of a sum: what the row has does not count.
    o : Out(32)
        The row's sum, float32, `latency` cycles later.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Section IV-C: one accumulator and output buffer for each column of a tile. Inferred: float32.
    """

    latency = ProductToFloat.latency + FloatAdd.latency

    def __init__(self, shape: BitmodShape, *, rows: int):
        self._shape, self._rows = shape, rows
        members: dict[str, Any] = {
            "valid": In(1), "row": In(range(rows)), "product": In(signed(shape.product_width)), "integer": In(1), "fresh": In(1),
            "o": Out(FP32.bits),
        }
        if shape.is_float:
            members["exponent"] = In(shape.exponent_width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.convert = convert = ProductToFloat(self._shape)
        m.submodules.add = add = FloatAdd(fmt=FP32)
        m.d.comb += [
            convert.product.eq(self.product), convert.integer.eq(self.integer), add.enable.eq(1), add.b.eq(convert.o),
            self.o.eq(add.o),
        ]
        if self._shape.is_float:
            m.d.comb += convert.exponent.eq(self.exponent)
        tag = Signal(data.StructLayout({"valid": 1, "fresh": 1, "row": len(self.row)}))
        m.d.comb += [tag.valid.eq(self.valid), tag.fresh.eq(self.fresh), tag.row.eq(self.row)]
        tags = [tag]
        for stage in range(self.latency):
            tags.append(Signal(tag.shape(), name=f"tag_{stage}"))
            m.d.sync += tags[-1].eq(tags[-2])
        sums = [Signal(FP32.bits, name=f"sum_{row}", reset_less=True) for row in range(self._rows)]
        adding, added = tags[ProductToFloat.latency], tags[self.latency]
        m.d.comb += add.a.eq(Mux(adding.fresh, 0, Array(sums)[adding.row]))
        for row, total in enumerate(sums):
            with m.If(added.valid & (added.row == row)):
                m.d.sync += total.eq(add.o)
        return m
