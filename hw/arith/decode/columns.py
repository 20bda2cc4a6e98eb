"""Decoder of bit columns (BBS): a packed group to integers."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.packed import packed_layout
from hw.families import ColumnFormat

__all__ = ["ColumnDecoder"]


class ColumnDecoder(wiring.Component):
    """Bit columns to integers, all of a group at once.

    The stored columns of a weight are its bits from 2^(7 − redundant) down; below them stand the low bits of the constant
    ("average"), or zeros and the constant is subtracted ("shift"). Combinational.

    Parameters
    ----------
    fmt : ColumnFormat

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
        At most as many redundant columns as are pruned; with more, the result means nothing.
    o : Out(ArrayLayout(signed(width), fmt.block))
        8 bits with averaged columns; 9 with shifted ones, which leave int8 where the constant has more than one bit.

    Reference: Chen et al., BBS, MICRO 2024, III-B. Differs: its PE never builds the weights, it adds constant · Σ activations.
    """

    def __init__(self, fmt: ColumnFormat):
        self._fmt = fmt
        self._width = 8 if fmt.method == "average" or fmt.constant_bits == 1 else 9
        super().__init__({"word": In(packed_layout(fmt.word)), "o": Out(data.ArrayLayout(signed(self._width), fmt.block))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fmt, columns = self._fmt, 8 - self._fmt.pruned
        average = fmt.method == "average"
        weights = [Signal(signed(8), name=f"weight_{index}") for index in range(fmt.block)]
        with m.Switch(self.word.redundant):
            for redundant in range(min(3, fmt.pruned) + 1):
                with m.Case(redundant):
                    dropped = fmt.pruned - redundant
                    low = self.word.constant[:dropped] if average else C(0, dropped)
                    for index, weight in enumerate(weights):
                        bits = Cat(self.word.columns[column][index] for column in reversed(range(columns)))
                        m.d.comb += weight.eq(Cat(low, bits).as_signed())
        for index, weight in enumerate(weights):
            m.d.comb += self.o[index].eq(weight if average else weight - self.word.constant.as_signed())
        return m
