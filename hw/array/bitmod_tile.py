"""A tile of BitMoD PEs with their column sums: operands in by steps of four, float32 rows out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.bitmod_array import BitmodArray, bitmod_step_layout
from hw.array.bitmod_column import ColumnSum
from hw.elements import FP32
from hw.errors import ConfigError
from hw.pe.bitmod.shape import BitmodShape
from hw.share import shared

__all__ = ["BitmodTile"]


class BitmodTile(wiring.Component):
    """R×C BitMoD PEs, output-stationary: o[r][c] = Σ over groups of scale · Σ activation[r] · weight[c], in float32.

    A `BitmodArray` whose products each column adds up (`ColumnSum`), one row a cycle, behind the next group.

    From the step that ends a result, of T cycles, to its first row: `latency` + T cycles; then a row a cycle, which cannot wait.
    Cycles of a product: `hw.engines.bitmod.bitmod_cycles`.

    Parameters
    ----------
    shape : BitmodShape
    rows, columns : int
        R and C, at least 1.

    Members
    -------
    i, special_write, special_addr, special_value, flushed, rejected
        As of `BitmodArray`.
    o_valid : Out(1), o_row : Out(range(R)), o : Out(C × 32)
        A row of results, float32.
    busy : Out(1)
        A step or a result is inside.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If there is no row or no column.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Section IV-C: 8×8 PEs. Inferred: see `BitmodArray` and `ColumnSum`.
    """

    latency = BitmodArray.latency + ColumnSum.latency

    def __init__(self, shape: BitmodShape, *, rows: int = 8, columns: int = 8):
        for name, value in (("rows", rows), ("columns", columns)):
            if value < 1:
                raise ConfigError(f"BitmodTile.{name} must be at least 1, not {value!r}")
        self.shape, self.rows, self.columns = shape, rows, columns
        super().__init__({
            "i": In(stream.Signature(bitmod_step_layout(shape, rows, columns))),
            "special_write": In(1),
            "special_addr": In(2),
            "special_value": In(signed(6)),
            "o_valid": Out(1),
            "o_row": Out(range(rows)),
            "o": Out(data.ArrayLayout(FP32.bits, columns)),
            "busy": Out(1),
            "flushed": Out(1),
            "rejected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = BitmodArray(self.shape, rows=self.rows, columns=self.columns)
        connect(m, tile=flipped(self.i), array=array.i)
        m.d.comb += [getattr(array, name).eq(getattr(self, name)) for name in ("special_write", "special_addr", "special_value")]
        m.d.comb += [self.flushed.eq(array.flushed), self.rejected.eq(array.rejected)]

        adding = Signal(ColumnSum.latency)              # bit d: a row was taken d + 1 cycles ago
        m.d.sync += adding.eq(Cat(array.o_valid, adding))
        m.d.comb += self.busy.eq(array.busy | adding.any())
        tag = data.StructLayout({"valid": 1, "row": len(self.o_row)})
        out = Signal(tag)
        m.d.comb += [out.valid.eq(array.o_valid & array.o.last), out.row.eq(array.o_row)]
        for stage in range(ColumnSum.latency):
            held = Signal(tag, name=f"out_{stage}")
            m.d.sync += held.eq(out)
            out = held
        m.d.comb += [self.o_valid.eq(out.valid), self.o_row.eq(out.row)]
        for c in range(self.columns):
            column = ColumnSum(self.shape, rows=self.rows)
            m.submodules[f"sum_{c}"] = shared(platform, f"bitmod_column_{self.shape.suffix}_{self.rows}", column)
            m.d.comb += [
                column.valid.eq(array.o_valid), column.row.eq(array.o_row), column.product.eq(array.o.products[c]),
                column.integer.eq(array.o.integer), column.fresh.eq(array.o.fresh), self.o[c].eq(column.o),
            ]
            if self.shape.is_float:
                m.d.comb += column.exponent.eq(array.o.exponents[c])
        return m
