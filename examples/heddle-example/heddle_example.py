"""A processing element, its golden model, a preset that uses it, and a number format: what a package needs to join Heddle."""

import dataclasses
from typing import TYPE_CHECKING, Any

from hw.config import AcceleratorConfig
from hw.elements import BF16, ELEMENTS
from hw.families import ScaledFormat
from hw.pe.mac import MacPE
from sw.golden.pe.base import Ints, PEModel

if TYPE_CHECKING:
    from amaranth.hdl import Value


class Floor4PE(MacPE):
    """Multiply-accumulate with products rounded down to a multiple of 4."""

    def multiply(self, weight: "Value") -> Any:
        return (self.activation * weight) & ~3


class Floor4Model(PEModel):
    """Golden model of `Floor4PE`."""

    def multiply(self, activation: Ints, weight: Ints) -> Ints:
        return activation * weight // 4 * 4


PRESET = dataclasses.replace(AcceleratorConfig(), pe="floor4")

FORMAT = ScaledFormat(family="fp4-sixths", block=32, block_letter="g", element=ELEMENTS["float4_e2m1fn"], scale=BF16,
                      source="an example", doc="E2M1 with a bfloat16 scale for each group of 32")
