# amaranth: UnusedElaboratable=no
"""FP4 in integers: every product against the values of E2M1; groups of activations against the golden model."""

from typing import Any

import numpy as np
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.hss_fp4 import SHIFT_MAX, Fp4Quantizer, fp4_product
from hw.elements import ELEMENTS
from sw.golden.array.hss import fp4_activations
from tb.sim import simulate

E2M1 = ELEMENTS["float4_e2m1fn"]


class Product(wiring.Component):
    """`fp4_product` with ports."""

    a: In(4)
    b: In(4)
    o: Out(signed(9))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        unused = Signal()
        m.d.sync += unused.eq(~unused)          # the simulator wants a clock
        m.d.comb += self.o.eq(fp4_product(self.a, self.b))
        return m


def test_every_product_is_exact() -> None:
    dut = Product()
    seen = {}

    async def drive(ctx: Any) -> None:
        for a in range(16):
            for b in range(16):
                ctx.set(dut.a, a)
                ctx.set(dut.b, b)
                seen[a, b] = ctx.get(dut.o)
        await ctx.tick()

    simulate(dut, drive)
    assert seen == {(a, b): round(4 * E2M1.value(a) * E2M1.value(b)) for a in range(16) for b in range(16)}
    assert max(seen.values()) == 144


class Clocked(wiring.Component):
    """A quantizer beside a clock."""

    def __init__(self, quantizer: Fp4Quantizer):
        self.quantizer = quantizer
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.quantizer = self.quantizer
        unused = Signal()
        m.d.sync += unused.eq(~unused)
        return m


def test_groups_are_rounded_as_the_golden_model_does() -> None:
    """Every int8 value in groups of every size of the largest; −128; ties."""
    rng = np.random.default_rng(1)
    groups = [rng.integers(-limit, limit + 1, 16) for limit in (1, 5, 12, 13, 24, 25, 48, 49, 96, 97, 127) * 3]
    groups += [np.arange(first, first + 16) for first in range(-128, 128, 16)]
    groups += [np.append(np.arange(-limit, -limit + 15), limit) for limit in (12, 20, 24, 40, 48, 80, 96, 127)]
    groups = [np.clip(group, -128, 127).astype(np.int8) for group in groups]
    dut = Fp4Quantizer(lanes=16)
    found: list[list[int]] = []
    shifts: list[int] = []

    async def drive(ctx: Any) -> None:
        for group in groups:
            ctx.set(dut.i, group.tolist())
            shifts.append(ctx.get(dut.shift))
            found.append([round(2 * E2M1.value(ctx.get(dut.codes[lane]))) << shifts[-1] for lane in range(16)])
        await ctx.tick()

    simulate(Clocked(dut), drive)
    assert found == fp4_activations(np.array(groups)).tolist()
    assert set(shifts) == set(range(SHIFT_MAX + 1))
