"""Residues of addresses: every bit of an address, every register on its way from the block to the bus."""

import random
from typing import Any

import pytest
from amaranth import Signal
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from hw.config import AcceleratorConfig
from hw.memory.axi import BurstSplitter
from hw.protect.address_check import AddressCheck

CONFIG = AcceleratorConfig(burst_beats=4, protection=(("addresses", "residue3"),))
BLOCKS = [
    {"dram_addr": 0x1230, "dram_stride": 0x2350, "rows": 3, "row_beats": 7, "tail": 0, "addr": 0, "stride": 0x80},
    {"dram_addr": 0xFFFF_0000, "dram_stride": 0x40, "rows": 4, "row_beats": 2, "tail": 5, "addr": 64, "stride": 32,
     "transpose": 1},
    {"dram_addr": 0x77F0, "dram_stride": 0, "rows": 2, "row_beats": 9, "tail": 1, "addr": 0, "stride": 0x400, "unpack": 1},
    {"dram_addr": 0x10, "dram_stride": 0x10000, "rows": 3, "row_beats": 3, "tail": 0, "addr": 0, "stride": 0x100, "transpose": 1,
     "unpack": 1},
]


def test_every_bit_of_an_address() -> None:
    dut, rng = AddressCheck(), random.Random(1)

    async def bench(ctx: Any) -> None:
        for _ in range(12):
            addr, length = rng.getrandbits(32), rng.getrandbits(8)
            right = (addr + length) % 3
            cases = [(addr, length, right, 0), (addr, length, right or 3, 0)]
            cases += [(addr ^ 1 << bit, length, right, 1) for bit in range(32)]
            cases += [(addr, length ^ 1 << bit, right, 1) for bit in range(8)]
            cases += [(addr, length, (right + wrong) % 3, 1) for wrong in (1, 2)]
            for shown_addr, shown_length, check, expected in cases:
                for valid in (0, 1):
                    shown = {"valid": valid, "addr": shown_addr, "length": shown_length, "check": check}
                    for port, value in shown.items():
                        ctx.set(getattr(dut, port), value)
                    await ctx.tick()
                    assert ctx.get(dut.detected) == (expected & valid)
                    assert ctx.get(dut.corrected) == 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def registers_of(fragment: Fragment) -> dict[str, Signal]:
    """Return the registers of a module by name."""
    return {signal.name: signal for statement in fragment.statements["sync"] for signal in statement._lhs_signals()}


def bursts_of(flip: tuple[int, str, int] | None) -> list[tuple[int, bool]]:
    """Return address and whether it fits its check of the blocks' bursts, a bit of a register inverted after some cycles."""
    dut = BurstSplitter(CONFIG)
    fragment = Fragment.get(dut, None)
    registers = registers_of(fragment)
    found: list[tuple[int, bool]] = []

    async def bench(ctx: Any) -> None:
        given, rng = 0, random.Random(3)
        for cycle in range(140):
            if flip is not None and cycle == flip[0]:
                register = registers[flip[1]]
                ctx.set(register, ctx.get(register) ^ 1 << flip[2])
            ready = rng.random() < 0.7
            ctx.set(dut.i.valid, given < len(BLOCKS))
            if given < len(BLOCKS):
                for name in dut.i.payload.shape().members:
                    ctx.set(dut.i.payload[name], BLOCKS[given].get(name, 0))
            ctx.set(dut.o.ready, ready)
            if ready and ctx.get(dut.o.valid) and not ctx.get(dut.o.payload.wrapped):
                addr, length, check = (ctx.get(dut.o.payload[name]) for name in ("dram_addr", "length", "check"))
                found.append((addr, (addr + length - check) % 3 == 0))
            given += ctx.get(dut.i.valid) and ctx.get(dut.i.ready)
            await ctx.tick()

    simulator = Simulator(fragment)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def test_residues_go_along() -> None:
    found = bursts_of(None)
    assert len(found) > 25
    assert all(fits for _, fits in found)
    assert len({addr % 3 for addr, _ in found}) == 3


@pytest.mark.parametrize(("name", "bits"), [("here", 32), ("start", 32), ("waiting_block", 64), ("here_residue", 2),
                                            ("start_residue", 2), ("stride_residue", 2)])
def test_a_register_that_is_hit(name: str, bits: int) -> None:
    """An address that is another than without the flip does not fit; a residue that is hit is no address at all."""
    right, rng, seen = bursts_of(None), random.Random(name), 0
    for _ in range(12):
        found = bursts_of((rng.randrange(3, 80), name, rng.randrange(bits)))
        for number, (addr, fits) in enumerate(found[:len(right)]):
            if not fits:
                seen += 1
                break
            assert addr == right[number][0]
    assert seen
