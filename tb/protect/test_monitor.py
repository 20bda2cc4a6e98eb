# amaranth: UnusedElaboratable=no
"""What a controller does when a checker reports: it stops, says why, and starts nothing until the host has looked."""

from typing import Any

from hw.config import AcceleratorConfig
from hw.control.controller import Controller
from hw.control.csr import CsrBank
from hw.isa import SEQUENCER, ErrorCause, Opcode
from hw.protect.domains import BLOCKS
from hw.protect.monitor import ProtectionMonitor
from hw.regs import register
from sw.assembler import Assembler
from tb.control.host import Host
from tb.control.programs import words_of
from tb.control.system import DONE, ERROR, System
from tb.sim import simulate

NEVER = 0xFFFF_FFFF


class ProtectedSystem(System):
    """A controller of a config with protection; its flags are the bench's."""

    def __init__(self, **options: Any):
        super().__init__(protection=(("scratchpad", "secded"),), **options)


def program(loops: int) -> Any:
    asm = Assembler()
    for _ in range(loops):
        asm.alu(Opcode.ADD, "r1", "r1", imm=1)
    asm.halt()
    return words_of(asm)


async def pulse(ctx: Any, signal: Any, bits: int) -> None:
    ctx.set(signal, bits)
    await ctx.tick()
    ctx.set(signal, 0)


def test_an_error_stops_the_program_and_every_next_one_until_it_is_cleared() -> None:
    system = ProtectedSystem()
    words = program(200)
    system.load(words)
    blocks = 1 << BLOCKS.index("engine") | 1 << BLOCKS.index("load")

    async def bench(ctx: Any) -> None:
        host, dut = system.host, system.dut
        await system.start(ctx, len(words))
        await ctx.tick().repeat(60)
        assert await host.read(ctx, "PROTECT_CYCLE") == NEVER
        await pulse(ctx, dut.protect_corrected, 2)
        await ctx.tick().repeat(5)
        assert await host.read(ctx, "STATUS") == 1, "what is corrected stops nothing"
        assert await host.read(ctx, "PROTECT_COUNTS") == 1 << 16
        first = await host.read(ctx, "PROTECT_CYCLE")
        assert 60 <= first <= 90
        await pulse(ctx, dut.protect_detected, blocks)
        for _ in range(2):
            end = await system.stopped(ctx)
            assert (end["STATUS"], end["IRQ_STATUS"]) == (ERROR, 2)
            assert end["ERROR"] == ErrorCause.PROTECTION | SEQUENCER << 8
            assert end["ERROR_ADDR"] == await host.read(ctx, "PROTECT_DETECTED") == blocks
            assert await host.read(ctx, "PROTECT_CORRECTED") == 2
            await system.start(ctx, len(words))                 # in vain
        await system.stopped(ctx)
        assert await host.read(ctx, "PROTECT_COUNTS") == 0, "counts are of one program"
        await host.write(ctx, "PROTECT_DETECTED", blocks)
        await host.write(ctx, "PROTECT_CORRECTED", 0xFF)
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"]) == (DONE, 0)
        for name, value in (("PROTECT_DETECTED", 0), ("PROTECT_CORRECTED", 0), ("PROTECT_COUNTS", 0), ("PROTECT_CYCLE", NEVER)):
            assert await host.read(ctx, name) == value

    system.run(bench, stops=True)


def test_an_error_of_the_first_cycle_and_one_between_programs() -> None:
    system = ProtectedSystem()
    words = program(20)
    system.load(words)

    async def bench(ctx: Any) -> None:
        await pulse(ctx, system.dut.protect_detected, 0x80)
        assert await system.host.read(ctx, "STATUS") == 0
        assert not ctx.get(system.dut.irq)
        await system.start(ctx, len(words))
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["ERROR"] & 0xFF, end["ERROR_ADDR"]) == (ERROR, ErrorCause.PROTECTION, 0x80)

    system.run(bench, stops=True)


def test_the_counts_stop_at_their_maxima() -> None:
    dut = ProtectionMonitor()

    async def bench(ctx: Any) -> None:
        ctx.set(dut.corrected, 1)
        await ctx.tick().repeat(0x1_0008)
        assert ctx.get(dut.corrected_count) == 0xFFFF
        assert ctx.get(dut.detected_count) == 0
        assert not ctx.get(dut.stop)

    simulate(dut, bench, deadline=1 << 17)


def test_without_protection_the_registers_are_there_and_empty() -> None:
    dut = Controller(AcceleratorConfig())
    assert "protect_detected" not in dut.signature.members
    bank = CsrBank(absent=("PROTECT_DETECTED", "PROTECT_CORRECTED"))
    host = Host(bank.bus, seed=1)

    async def bench(ctx: Any) -> None:
        ctx.set(bank.protect_detected_set.as_value(), 0xFF)
        await ctx.tick().repeat(3)
        for name in ("PROTECT_DETECTED", "PROTECT_CORRECTED", "PROTECT_COUNTS"):
            assert await host.read(ctx, register(name).offset) == 0
        assert await host.write(ctx, register("PROTECT_DETECTED").offset, 0xFF) == 0

    simulate(bank, bench)


def test_blocks_are_bits_of_the_registers() -> None:
    for name in ("PROTECT_DETECTED", "PROTECT_CORRECTED"):
        assert tuple(field.name for field in register(name).fields) == BLOCKS
