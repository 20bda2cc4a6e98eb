"""A processing element, a matrix engine, presets that use them, and a number format: what a package needs to join Heddle."""

import dataclasses
from typing import TYPE_CHECKING, Any

from amaranth import Module, Signal

from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig
from hw.elements import BF16, ELEMENTS
from hw.engines.systolic import SYSTOLIC
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


class ProbedEngine(SystolicEngine):
    """The systolic engine with a register that counts the steps of the array, for waves and logic analyzers."""

    def elaborate(self, platform: Any) -> Module:
        m = super().elaborate(platform)
        steps = Signal(32, attrs={"keep": 1})
        with m.If(self.active):
            m.d.sync += steps.eq(steps + 1)
        return m


ENGINE = dataclasses.replace(SYSTOLIC, name="probed", doc="systolic, with a counter of its steps", source="an example")

PRESET = dataclasses.replace(AcceleratorConfig(), pe="floor4")
PROBED = dataclasses.replace(PRESET, engine="probed")

FORMAT = ScaledFormat(family="fp4-sixths", block=32, block_letter="g", element=ELEMENTS["float4_e2m1fn"], scale=BF16,
                      source="an example", doc="E2M1 with a bfloat16 scale for each group of 32")
