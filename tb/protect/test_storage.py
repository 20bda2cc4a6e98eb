# amaranth: UnusedElaboratable=no
"""Protected FIFOs: the behaviour of plain ones, and every flip of a stored bit put right or detected."""

from typing import Any

import pytest
from amaranth.lib import data

from hw.memory.deep_fifo import DeepFIFO
from hw.memory.fifo import StreamFIFO
from tb.sim import check_stream, get_all, put_all, simulate

LAYOUT = data.StructLayout({"a": 40, "b": 33})
FIFOS = {"StreamFIFO": StreamFIFO, "DeepFIFO": DeepFIFO}


@pytest.mark.parametrize("mechanism", ["parity", "secded"])
@pytest.mark.parametrize("kind", FIFOS)
def test_order_and_latency(kind: str, mechanism: str) -> None:
    """What comes out, and when, is what comes out of a plain FIFO."""
    sent = [{"a": i * 0x1_2345_6789 % (1 << 40), "b": (i * i) << 7} for i in range(60)]
    seen = []
    for protection in ("none", mechanism):
        dut, got = FIFOS[kind](shape=LAYOUT, depth=5, protection=protection), []
        cycles = simulate(dut, put_all(dut.i, sent, stall=0.3, seed=1), get_all(dut.o, len(sent), got, stall=0.3, seed=2),
                          background=[check_stream(dut.o)])
        assert [{"a": each.a, "b": each.b} for each in got] == sent
        seen.append(cycles)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("mechanism", ["parity", "secded"])
@pytest.mark.parametrize("kind", FIFOS)
def test_every_stored_bit(kind: str, mechanism: str) -> None:
    """A flip is put right and counted once, or detected; one in a place that holds nothing is neither."""
    dut = FIFOS[kind](shape=LAYOUT, depth=4, protection=mechanism)
    module = dut.elaborate(None)
    dut.elaborate = lambda platform: module             # elaborating again would make another memory
    storage = module.submodules.storage
    inner = storage.elaborate(None)
    storage.elaborate = lambda platform: inner
    rows, guard = inner.submodules.array.data, inner.submodules.guard_0
    width = storage.code.coded_width
    # The first payloads leave the memory of a deep FIFO at once, for the registers behind it.
    held = 2 if kind == "DeepFIFO" else 0
    assert width == 73 + (3 if mechanism == "parity" else 8 + 5)

    async def bench(ctx: Any) -> None:
        place = 0
        for bit in range(width):
            ctx.set(dut.o.ready, 0)
            for _ in range(held + 1):
                ctx.set(dut.i.payload, {"a": 0xAB_CDEF_0123 ^ bit, "b": 0x1_0000_0001 * (bit & 1)})
                ctx.set(dut.i.valid, 1)
                await ctx.tick()
                ctx.set(dut.i.valid, 0)
                for _ in range(4):
                    await ctx.tick()
            struck, empty = (place + held) % 4, (place + held + 1) % 4
            for row in (struck, empty):
                ctx.set(rows[row], ctx.get(rows[row]) ^ 1 << bit)
            detected = corrected = 0
            for cycle in range(16):
                ctx.set(dut.o.ready, cycle > 4)
                if ctx.get(dut.o.valid & dut.o.ready) and mechanism == "secded":
                    assert ctx.get(dut.o.p.a) == 0xAB_CDEF_0123 ^ bit
                    assert ctx.get(dut.o.p.b) == 0x1_0000_0001 * (bit & 1)
                await ctx.tick()
                detected |= ctx.get(guard.detected)
                corrected += ctx.get(guard.corrected)
            assert ctx.get(dut.level) == 0
            assert (detected, corrected) == ((0, 1) if mechanism == "secded" else (1, 0)), bit
            place = (place + held + 1) % 4

    simulate(dut, bench)
