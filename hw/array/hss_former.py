"""Cuts slices of activations into blocks, for weights in structured sparsity."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BlockFormer"]


class BlockFormer(wiring.Component):
    """Wires each group's values as blocks of H0: as many wirings as there are block lengths, a multiplexer for each byte.

    Latency 1, initiation interval 1.

    Parameters
    ----------
    groups : int
    blocks : int
        The largest H1.
    lengths : tuple of int
        Every H0.

    Members
    -------
    i : In(groups × blocks·max(lengths) × unsigned(8))
        A group's values in order.
    h0 : In(range(max(lengths) + 1))
    o : Out(groups × blocks × max(lengths) × signed(8))
        Value (b, e) of a group is b·H0 + e; blocks from H1 on, and values from H0 on, mean nothing.
    """

    def __init__(self, *, groups: int, blocks: int, lengths: tuple[int, ...]):
        self.groups, self.blocks, self.lengths = groups, blocks, tuple(sorted(set(lengths)))
        longest = self.lengths[-1]
        super().__init__({
            "i": In(data.ArrayLayout(data.ArrayLayout(unsigned(8), blocks * longest), groups)),
            "h0": In(range(longest + 1)),
            "o": Out(data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(signed(8), longest), blocks), groups)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for group in range(self.groups):
            for block in range(self.blocks):
                for element in range(self.lengths[-1]):
                    fitting = [length for length in self.lengths if element < length]
                    value: Value = self.i[group][block * fitting[-1] + element]
                    for length in fitting[:-1]:
                        value = Mux(self.h0 == length, self.i[group][block * length + element], value)
                    m.d.sync += self.o[group][block][element].eq(value)
        return m
