"""A column of floating-point multipliers whose weights stay, and the tree that adds their products."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_add import FloatAdd
from hw.arith.float_product import FloatProduct, product_latency
from hw.config import ceil_log2
from hw.elements import FP32, FloatFormat
from hw.share import shared

__all__ = ["FloatColumn"]


class FloatColumn(wiring.Component):
    """Σ activation[r] · weight[r] over R rows, one sum a cycle: R multipliers and R − 1 float32 adders in a tree.

    Products are exact (`FloatProduct`); neighbours are added first, then pairs of pairs, and so on; each sum is rounded to
    nearest, ties to even, and subnormal numbers count as zero. Weights have two registers a row: one set multiplies while the
    other is loaded.

    Latency `latency` cycles, initiation interval 1.

    Parameters
    ----------
    fmt : FloatFormat
        float16 or bfloat16, of activations and weights.
    rows : int
        R, a power of two.

    Members
    -------
    activation : In(R × bits)
    weight : In(bits), load : In(1), load_row : In(range(R))
        Put a weight into the set that does not multiply.
    select : In(1)
        Which set multiplies.
    psum : Out(32)
        float32, `latency` cycles after the activations.

    Attributes
    ----------
    latency : int
    """

    def __init__(self, *, fmt: FloatFormat, rows: int):
        self.fmt, self.rows = fmt, rows
        self.latency = product_latency(fmt) + ceil_log2(rows) * FloatAdd.latency
        super().__init__({
            "activation": In(data.ArrayLayout(fmt.bits, rows)),
            "weight": In(fmt.bits),
            "load": In(1),
            "load_row": In(max(1, ceil_log2(rows))),
            "select": In(1),
            "psum": Out(FP32.bits),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        return f"float_column_{self.fmt.name}_{self.rows}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        terms: list[Value] = []
        for r in range(self.rows):
            sets = [Signal(self.fmt.bits, name=f"stationary_{r}_{number}", reset_less=True) for number in range(2)]
            for number, held in enumerate(sets):
                with m.If(self.load & (self.load_row == r) & (self.select != number)):
                    m.d.sync += held.eq(self.weight)
            product = FloatProduct(fmt=self.fmt)
            m.submodules[f"product_{r}"] = shared(platform, f"float_product_{self.fmt.name}", product)
            m.d.comb += [product.enable.eq(1), product.a.eq(self.activation[r]), product.b.eq(Mux(self.select, sets[1], sets[0]))]
            terms.append(product.o.as_value())
        level = 0
        while len(terms) > 1:
            sums: list[Value] = []
            for index in range(0, len(terms), 2):
                add = FloatAdd(fmt=FP32)
                m.submodules[f"add_{level}_{index // 2}"] = shared(platform, "float32_add_flush", add)
                m.d.comb += [add.enable.eq(1), add.a.eq(terms[index]), add.b.eq(terms[index + 1])]
                sums.append(add.o.as_value())
            terms, level = sums, level + 1
        m.d.comb += self.psum.eq(terms[0])
        return m
