# amaranth: UnusedElaboratable=no
"""UART receiver and transmitter against a line drawn bit by bit."""

import random
import re

import pytest

from hw.bridge.uart_receiver import UartReceiver
from hw.bridge.uart_transmitter import UartTransmitter
from hw.errors import ConfigError
from tb.sim import check_stream, get_all, put_all, simulate


def levels(byte: int, divisor: float, start: float = 0.0) -> list[int]:
    """Return the line for one byte, cycle by cycle, from `start` cycles into the first bit."""
    bits = [0, *(byte >> i & 1 for i in range(8)), 1]
    return [bits[int((cycle + start) / divisor)] for cycle in range(int(10 * divisor))]


def receive(divisor: int, line: list[int], count: int) -> list[int]:
    dut = UartReceiver(divisor)
    got: list[int] = []

    async def drive(ctx):
        for level in line:
            ctx.set(dut.rx, level)
            await ctx.tick()
        await ctx.tick().repeat(12 * divisor)

    async def read(ctx):
        ctx.set(dut.o.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(dut.o.valid, dut.o.payload):
            if valid:
                got.append(payload)

    simulate(dut, drive, background=[read])
    assert len(got) == count
    return got


@pytest.mark.parametrize("divisor", [4, 5, 16, 217])
def test_every_kind_of_byte_is_received_back_to_back(divisor):
    sent = [0x00, 0xFF, 0xA5, 0x01, 0x80, *random.Random(divisor).randbytes(1 if divisor > 100 else 40)]
    assert receive(divisor, [1] * 9 + [level for byte in sent for level in levels(byte, divisor)], len(sent)) == sent


@pytest.mark.parametrize("error", [-0.03, 0.03])
def test_a_clock_that_is_three_percent_off_is_understood(error):
    sent = list(random.Random(0).randbytes(30))
    line = [level for byte in sent for level in [*levels(byte, 16 * (1 + error)), 1, 1]]
    assert receive(16, line, len(sent)) == sent


def test_a_spike_is_no_start_bit():
    assert receive(16, [1] * 20 + [0] * 5 + [1] * 40 + levels(0x42, 16), 1) == [0x42]


def test_a_byte_without_stop_bit_is_dropped():
    broken = levels(0x42, 8)[:-8] + [0] * 8
    assert receive(8, broken + [1] * 200 + levels(0x43, 8), 1) == [0x43]


def test_a_byte_that_finds_no_place_is_lost_and_the_next_is_whole():
    dut = UartReceiver(4)
    got: list[int] = []

    async def drive(ctx):
        for level in [1] * 4 + levels(0x11, 4) + levels(0x22, 4) + [1] * 8:
            ctx.set(dut.rx, level)
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        for level in levels(0x33, 4) + [1] * 8:
            ctx.set(dut.rx, level)
            await ctx.tick()

    async def read(ctx):
        async for _, _, valid, ready, payload in ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload):
            if valid and ready:
                got.append(payload)

    simulate(dut, drive, background=[read, check_stream(dut.o)])
    assert got == [0x11, 0x33]


@pytest.mark.parametrize("divisor", [1, 2, 5, 16])
@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_the_transmitter_draws_the_line(divisor, stall):
    dut = UartTransmitter(divisor)
    sent, line = [0x00, 0xFF, 0xA5, *random.Random(1).randbytes(6)], []

    async def watch(ctx):
        async for _, _, tx in ctx.tick().sample(dut.tx):
            line.append(tx)

    async def rest(ctx):
        await ctx.tick().until(dut.i.valid & dut.i.ready)
        for _ in sent[1:]:
            await ctx.tick().until(dut.i.valid & dut.i.ready)
        await ctx.tick().repeat(10 * divisor + 2)

    simulate(dut, put_all(dut.i, sent, stall=stall, seed=3), rest, background=[watch, check_stream(dut.i)])
    got, at = [], 0
    while 0 in line[at:]:
        at = line.index(0, at)
        bits = line[at:at + 10 * divisor]
        got.append(next(byte for byte in range(256) if levels(byte, divisor) == bits))
        at += 10 * divisor
    assert got == sent
    if not stall:
        assert line[:len(sent) * 10 * divisor + dut.latency][dut.latency:].count(0) == line.count(0)


def test_from_one_to_the_other():
    sender, receiver = UartTransmitter(6), UartReceiver(6)
    from amaranth import Module

    m = Module()
    m.submodules += [sender, receiver]
    m.d.comb += receiver.rx.eq(sender.tx)
    sent, got = list(random.Random(2).randbytes(25)), []
    simulate(m, put_all(sender.i, sent), get_all(receiver.o, len(sent), got, stall=0.5, seed=1))
    assert got == sent


@pytest.mark.parametrize(("block", "divisor", "text"), [
    (UartReceiver, 3, "UartReceiver.divisor must be at least 4 cycles, not 3"),
    (UartTransmitter, 0, "UartTransmitter.divisor must be at least 1 cycle, not 0"),
])
def test_a_divisor_that_is_too_small_is_refused(block, divisor, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        block(divisor)
