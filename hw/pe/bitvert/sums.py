"""ΣA generator: the sums of activations that a column's zeros are taken from."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe.bitvert.scheduler import SUBGROUP

__all__ = ["LANES", "SUBGROUPS", "ActivationSums", "sums_layout"]

LANES = 16
"""Weights and activations of a PE."""
SUBGROUPS = LANES // SUBGROUP

sums_layout = data.ArrayLayout(signed(8 + 3), SUBGROUPS)
"""Sum of the activations of each sub-group."""


class ActivationSums(wiring.Component):
    """Sums of the activations of each sub-group; one serves all channels of a row. Combinational.

    Members
    -------
    activations : In(16 × signed(8))
    o : Out(`sums_layout`)
    """

    def __init__(self) -> None:
        super().__init__({"activations": In(data.ArrayLayout(signed(8), LANES)), "o": Out(sums_layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for group in range(SUBGROUPS):
            level = [self.activations[group * SUBGROUP + index] for index in range(SUBGROUP)]
            while len(level) > 1:
                level = [a + b for a, b in zip(level[::2], level[1::2], strict=True)]
            m.d.comb += self.o[group].eq(level[0])
        return m
