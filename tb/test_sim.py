"""The bench helpers themselves: a hang ends, and what breaks a rule is caught."""

import re
from typing import Any

import pytest
from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.ports import AxiReadPort, AxiWritePort
from tb.sim import AxiMemory, check_stream, get_all, get_one, put_all, simulate


class Register(wiring.Component):
    """One register between two streams."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.payload.eq(self.i.payload), self.o.valid.eq(self.i.valid)]
        return m


class Loose(wiring.Component):
    """Ports of an AXI master that a testbench drives."""

    def __init__(self) -> None:
        super().__init__({"r": In(AxiReadPort(64)), "w": In(AxiWritePort(64)), "s": In(stream.Signature(8))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += Signal().eq(1)
        return m


def test_streams_arrive_in_order() -> None:
    dut, got = Register(), []
    simulate(dut, put_all(dut.i, list(range(40)), stall=0.4, seed=1), get_all(dut.o, 40, got, stall=0.4, seed=2),
             background=[check_stream(dut.i), check_stream(dut.o)])
    assert got == list(range(40))


def test_hang_is_a_failure_that_names_the_seed() -> None:
    dut = Register()

    async def wait(ctx: Any) -> None:
        await get_one(ctx, dut.o)

    with pytest.raises(TimeoutError, match=r"^no end within 50 cycles\nseed 17, cycle 50$"):
        simulate(dut, wait, seed=17, deadline=50)


@pytest.mark.parametrize(("valid", "payload", "text"), [
    (1, 6, "stream: payload changed before ready"), (0, 5, "stream: valid fell before ready")])
def test_unstable_offer_is_caught(valid: int, payload: int, text: str) -> None:
    dut = Loose()

    async def offer(ctx: Any) -> None:
        ctx.set(dut.s.payload, 5)
        ctx.set(dut.s.valid, 1)
        await ctx.tick()
        ctx.set(dut.s.payload, payload)
        ctx.set(dut.s.valid, valid)
        await ctx.tick().repeat(2)

    with pytest.raises(AssertionError, match=f"^{text}"):
        simulate(dut, offer, background=[check_stream(dut.s)])


@pytest.mark.parametrize(("addr", "length", "size", "burst", "text"), [
    (8, 0, 2, 1, "size must be the full width of the bus"),
    (8, 0, 3, 0, "burst must be INCR"),
    (4, 0, 3, 1, "address must be aligned to the beat"),
    (8, 16, 3, 1, "burst of 17 beats is too long"),
    (4088, 1, 3, 1, "burst crosses a 4-KiB boundary"),
])
@pytest.mark.parametrize("channel", ["ar", "aw"])
def test_illegal_burst_is_caught(channel: str, addr: int, length: int, size: int, burst: int, text: str) -> None:
    dut, memory = Loose(), AxiMemory(8192, 64, burst_beats=16)
    port = dut.r if channel == "ar" else dut.w
    background = memory.read(dut.r) if channel == "ar" else memory.write(dut.w)

    async def request(ctx: Any) -> None:
        for name, value in (("addr", addr), ("len", length), ("size", size), ("burst", burst), ("valid", 1)):
            ctx.set(getattr(port, channel + name), value)
        await ctx.tick().repeat(4)

    with pytest.raises(AssertionError, match=f"^{re.escape(text)}"):
        simulate(dut, request, background=[background])


def test_wrong_wlast_is_caught() -> None:
    dut, memory = Loose(), AxiMemory(8192, 64)

    async def write(ctx: Any) -> None:
        for name, value in (("awlen", 1), ("awsize", 3), ("awburst", 1), ("awvalid", 1), ("wvalid", 1), ("wlast", 1)):
            ctx.set(getattr(dut.w, name), value)
        await ctx.tick().repeat(4)

    with pytest.raises(AssertionError, match=r"^WLAST is 1 in beat 0 of 2"):
        simulate(dut, write, background=[memory.write(dut.w)])


def test_memory_answers_after_its_latency_and_with_its_faults() -> None:
    dut, memory = Loose(), AxiMemory(8192, 64, latency=9, seed=3)
    memory.faults[72] = 3

    async def read(ctx: Any) -> None:
        for name, value in (("araddr", 64), ("arlen", 1), ("arsize", 3), ("arburst", 1), ("arvalid", 1), ("rready", 1)):
            ctx.set(getattr(dut.r, name), value)
        await ctx.tick().until(dut.r.arready)
        ctx.set(dut.r.arvalid, 0)
        got = []
        for cycle in range(1, 14):
            _, _, valid, last, response, data = await ctx.tick().sample(dut.r.rvalid, dut.r.rlast, dut.r.rresp, dut.r.rdata)
            if valid:
                got.append((cycle, last, response, data))
        assert got == [(9, 0, 0, int.from_bytes(memory.data[64:72].tobytes(), "little")),
                       (10, 1, 3, int.from_bytes(memory.data[72:80].tobytes(), "little"))]

    simulate(dut, read, background=[memory.read(dut.r)])
