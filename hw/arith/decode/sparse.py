"""Records of structured sparsity (N:M, HSS) → dense lanes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.packed import packed_layout
from hw.arith.decode.scatter import scatter, slots
from hw.families import SparseFormat

__all__ = ["SparseDecoder"]


class SparseDecoder(wiring.Component):
    """Record of a sparse pattern → the values of its block, zero where none is kept. Combinational.

    Two levels, as the pattern: values to their places in a kept block, kept blocks to their places. Illegal coordinates: see
    `scatter`. The scale of the row is the business of whoever multiplies.

    Parameters
    ----------
    fmt : SparseFormat

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
    o : Out(array of `fmt.block` signed(8))

    Reference
    ---------
    Wu et al., HighLight, MICRO 2023: differs in what it is for. There, metadata select activations and no block is ever
    made dense.
    """

    def __init__(self, fmt: SparseFormat):
        self._fmt = fmt
        super().__init__({"word": In(packed_layout(fmt.word)), "o": Out(data.ArrayLayout(signed(8), fmt.block))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt = self._fmt
        kept, keep = fmt.outer_keep * fmt.inner_keep, fmt.inner_keep
        values, inner = slots(self.word.values, kept), slots(self.word.inner, kept)
        blocks: list[Value] = []
        for index in range(fmt.outer_keep):
            own = slice(index * keep, (index + 1) * keep)
            blocks.append(block := Signal(8 * fmt.inner_of, name=f"block_{index}"))
            m.d.comb += block.eq(Cat(*scatter(values[own], inner[own], fmt.inner_of)))
        if fmt.outer_bits:
            blocks = scatter(blocks, slots(self.word.outer, fmt.outer_keep), fmt.outer_of)
        m.d.comb += self.o.as_value().eq(Cat(*blocks))
        return m
