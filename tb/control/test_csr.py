"""The register bank, register by register from the table: reset values, access, strobes, bad addresses, channel order."""

import random
from typing import Any

import pytest

from hw.control.csr import CsrBank
from hw.regs import REGISTER_SPACE, REGISTERS, Register
from tb.control.host import Host, lite_channels
from tb.sim import check_stable, simulate

OKAY, SLVERR = 0, 2


def mask_of(register: Register) -> int:
    return (1 << sum(field.width for field in register.fields)) - 1


def by_access(access: str) -> list[Register]:
    return [register for register in REGISTERS if register.access == access]


def run(dut: CsrBank, bench: Any, host: Host, seed: int) -> None:
    checks = [check_stable(*channel, name=name) for name, channel in lite_channels(dut.bus).items()]
    simulate(dut, bench, background=checks, seed=seed, deadline=50_000)


@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_every_register(pause: float) -> None:
    rng = random.Random(int(10 * pause))
    dut = CsrBank()
    host = Host(dut.bus, pause=pause, seed=1)

    async def bench(ctx: Any) -> None:
        values = {}
        for register in REGISTERS:
            assert await host.read(ctx, register.offset) == register.reset, register.name
            if register.access == "RW":
                value = rng.getrandbits(32)
                assert await host.write(ctx, register.offset + rng.randrange(4), value) == OKAY
                values[register.name] = value & mask_of(register)
        for register in REGISTERS:
            if register.access == "R":
                before = await host.read(ctx, register.offset)
                assert await host.write(ctx, register.offset, ~before & 0xFFFF_FFFF) == SLVERR, register.name
                assert await host.read(ctx, register.offset) == before
        for register in rng.sample(by_access("RW"), len(values)):
            assert await host.read(ctx, register.offset) == values[register.name], register.name
            assert ctx.get(getattr(dut, register.name.lower()).as_value()) == values[register.name]

    run(dut, bench, host, seed=1)
    assert all(host.first.values()) == (pause > 0), "both orders of AW and W must have come"


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_bytes_are_written_by_strobe(pause: float) -> None:
    rng = random.Random(2)
    dut = CsrBank()
    host = Host(dut.bus, pause=pause, seed=2)

    async def bench(ctx: Any) -> None:
        for register in by_access("RW"):
            held = 0
            for strobes in rng.sample(range(16), 6):
                value = rng.getrandbits(32)
                mask = sum(0xFF << 8 * i for i in range(4) if strobes >> i & 1)
                assert await host.write(ctx, register.offset, value, strobes) == OKAY
                held = (held & ~mask | value & mask) & mask_of(register)
                assert await host.read(ctx, register.offset) == held, (register.name, strobes)

    run(dut, bench, host, seed=2)


def test_hardware_values_are_read() -> None:
    rng = random.Random(3)
    dut = CsrBank()
    host = Host(dut.bus)

    async def bench(ctx: Any) -> None:
        for register in by_access("R"):
            value = rng.getrandbits(32) & mask_of(register)
            ctx.set(getattr(dut, register.name.lower()).as_value(), value)
            assert await host.read(ctx, register.offset) == value, register.name

    run(dut, bench, host, seed=3)


def test_addresses_outside_the_table() -> None:
    dut = CsrBank()
    host = Host(dut.bus, pause=0.2, seed=4)
    known = {register.offset for register in REGISTERS}
    holes = [addr for addr in range(0, REGISTER_SPACE, 4) if addr not in known]

    async def bench(ctx: Any) -> None:
        for addr in holes[:20] + holes[-20:]:
            assert await host.try_read(ctx, addr) == (0, SLVERR), hex(addr)
            assert await host.write(ctx, addr, 0xFFFF_FFFF) == SLVERR, hex(addr)
        for register in REGISTERS:
            assert await host.read(ctx, register.offset) == register.reset, register.name

    run(dut, bench, host, seed=4)
    assert len(holes) > 40


@pytest.mark.parametrize("register", by_access("W"), ids=lambda register: register.name)
def test_pulses(register: Register) -> None:
    dut = CsrBank()
    host = Host(dut.bus, pause=0.3, seed=5)
    pulses: list[int] = []

    async def watch(ctx: Any) -> None:
        async for _, _, value in ctx.tick().sample(getattr(dut, register.name.lower()).as_value()):
            if value:
                pulses.append(value)

    async def bench(ctx: Any) -> None:
        for value in range(1, mask_of(register) + 1):
            assert await host.write(ctx, register.offset, value) == OKAY
            assert await host.write(ctx, register.offset, value, 0b1110) == OKAY
            assert await host.read(ctx, register.offset) == 0

    simulate(dut, bench, background=[watch])
    assert pulses == list(range(1, mask_of(register) + 1))


@pytest.mark.parametrize("register", by_access("RW1C"), ids=lambda register: register.name)
def test_events_are_cleared_by_ones(register: Register) -> None:
    dut = CsrBank()
    host = Host(dut.bus)
    everything = mask_of(register)

    async def bench(ctx: Any) -> None:
        events = getattr(dut, f"{register.name.lower()}_set").as_value()
        for clear in range(everything + 1):
            ctx.set(events, everything)
            await ctx.tick()
            ctx.set(events, 0)
            assert await host.read(ctx, register.offset) == everything
            assert await host.write(ctx, register.offset, clear, 0b1110) == OKAY
            assert await host.read(ctx, register.offset) == everything
            assert await host.write(ctx, register.offset, clear) == OKAY
            assert await host.read(ctx, register.offset) == everything & ~clear
            assert ctx.get(getattr(dut, register.name.lower()).as_value()) == everything & ~clear
        ctx.set(events, everything)
        assert await host.write(ctx, register.offset, everything) == OKAY
        assert await host.read(ctx, register.offset) == everything, "setting wins"

    run(dut, bench, host, seed=6)


def test_hold_delays_a_write() -> None:
    dut = CsrBank()
    host = Host(dut.bus)
    done = False

    async def release(ctx: Any) -> None:
        ctx.set(dut.hold, 1)
        await ctx.tick().repeat(20)
        assert not done
        assert ctx.get(dut.watchdog.limit) == 0
        ctx.set(dut.hold, 0)

    async def bench(ctx: Any) -> None:
        nonlocal done
        assert await host.write(ctx, "WATCHDOG", 7) == OKAY
        done = True
        assert await host.read(ctx, "WATCHDOG") == 7

    simulate(dut, bench, release)
