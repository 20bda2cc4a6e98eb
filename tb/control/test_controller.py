"""The controller against an interpreter: random programs, random units, every way to stop, and starting again."""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.control.controller import Controller
from hw.isa import ErrorCause, Unit
from tb.control.host import Host
from tb.control.interpreter import Command, Trace, interpret
from tb.control.programs import random_program
from tb.control.units import UnitModel
from tb.sim import AxiMemory, check_stream, simulate

BASE = 0x1FC0                  # the second line lies in another 4-KiB page
SEQUENCER = 4
DONE, ERROR = 0b010, 0b100


class System:
    """A controller with memory, host and four unit models, and the order of events seen at the units."""

    def __init__(self, *, bus_width: int = 128, lines: int = 8, depth: int = 4, latency: int = 8, stall: float = 0.0,
                 unit_stall: float = 0.0, room: int = 4, longest: int = 20, seed: int = 0,
                 units: Mapping[Unit, dict[str, Any]] = MappingProxyType({})):
        config = AcceleratorConfig(bus_width=bus_width, command_lines=lines, queue_depth=depth, scratchpad_banks=4)
        self.dut = Controller(config)
        self.memory = AxiMemory(1 << 16, bus_width, latency=latency, stall=stall, seed=seed)
        self.host = Host(self.dut.s_axil, seed=seed)
        self.events: list[tuple[str, Unit, int]] = []
        self.seed = seed
        self.units = {
            unit: UnitModel(getattr(self.dut, unit.name.lower()), unit, longest=longest, stall=unit_stall, room=room,
                            seed=seed + unit, accept=lambda *e: self.events.append(("start", *e)),
                            done=lambda *e: self.events.append(("done", *e)), **units.get(unit, {}))
            for unit in Unit
        }

    def load(self, words: np.ndarray, addr: int = BASE) -> None:
        """Put a program into memory."""
        self.memory.data[addr:addr + 8 * len(words)] = words.view(np.uint8)

    async def start(self, ctx: Any, length: int, arguments: Sequence[int] = (), addr: int = BASE, watchdog: int = 0) -> None:
        """Set everything up and ring the doorbell."""
        for i, value in enumerate(arguments):
            await self.host.write(ctx, f"ARG{i}", value)
        await self.host.write(ctx, "PROGRAM_ADDR", addr)
        await self.host.write(ctx, "PROGRAM_LENGTH", length)
        await self.host.write(ctx, "WATCHDOG", watchdog)
        await self.host.write(ctx, "IRQ_ENABLE", 0b11)
        await self.host.write(ctx, "IRQ_STATUS", 0b11)
        assert not ctx.get(self.dut.irq)
        await self.host.write(ctx, "CONTROL", 1)

    async def stopped(self, ctx: Any) -> dict[str, int]:
        """Wait for the interrupt and return the registers that say how it ended."""
        while not ctx.get(self.dut.irq):
            await ctx.tick()
        names = ("STATUS", "IRQ_STATUS", "ERROR", "ERROR_PC", "ERROR_ADDR", "PC", "QUEUES", "WAITING")
        return {name: await self.host.read(ctx, name) for name in names}

    async def counter(self, ctx: Any, name: str) -> int:
        """Return a 64-bit counter."""
        return await self.host.read(ctx, f"{name.upper()}_LO") | await self.host.read(ctx, f"{name.upper()}_HI") << 32

    async def semaphores(self, ctx: Any) -> list[int]:
        """Return the counts."""
        words = [await self.host.read(ctx, f"SEMAPHORES{i}") for i in range(4)]
        return [word >> 8 * i & 0xFF for word in words for i in range(4)]

    def run(self, bench: Any, deadline: int = 20_000, streams: bool = True) -> None:
        """Simulate `bench` with all models."""
        background = [self.memory.read(self.dut.fetch), self.memory.check_read(self.dut.fetch),
                      *(model.bench() for model in self.units.values())]
        if streams:
            background += [check_stream(model.port.command, unit.name) for unit, model in self.units.items()]
        simulate(self.dut, bench, background=background, seed=self.seed, deadline=deadline)

    def check_commands(self, trace: Trace, *, complete: bool) -> None:
        """Check what the units have seen: the right commands, in order, none before its semaphores were signalled."""
        for unit, model in self.units.items():
            expected = [command.fields for command in trace.commands[unit]]
            assert model.commands == expected[:len(model.commands)], unit
            if complete:
                assert len(model.commands) == len(expected) == model.finished, unit
        free = [sum(mask >> i & 1 for mask in trace.signals) for i in range(16)]
        given, taken = [0] * 16, [0] * 16
        for kind, unit, number in self.events:
            command: Command = trace.commands[unit][number]
            for i in range(16):
                if kind == "start":
                    taken[i] += command.wait >> i & 1
                    assert taken[i] <= given[i] + free[i], f"{unit.name} command {number} did not wait for semaphore {i}"
                else:
                    given[i] += command.signal >> i & 1


def arguments_of(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(32) for _ in range(15)] + [rng.randrange(3)]


CASES = [
    dict(bus_width=128, lines=4, stall=0.3, unit_stall=0.5, longest=40, depth=2),
    dict(bus_width=64, lines=8, stall=0.0, longest=4),
    dict(bus_width=512, lines=4, latency=1, room=1, longest=10, depth=3),
    dict(bus_width=256, lines=32, latency=30, longest=1),
    dict(bus_width=128, lines=8, stall=0.5, latency=2, longest=100, depth=16),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", range(len(CASES)))
def test_random_programs(case: int, seed: int) -> None:
    system = System(**CASES[case], seed=100 * case + seed)
    words = random_program(100 * case + seed, statements=50).words()
    arguments = arguments_of(seed)
    trace = interpret([int(w) for w in words], arguments)
    assert trace.cause == ErrorCause.NONE
    assert sum(len(commands) for commands in trace.commands.values()) >= 10
    system.load(words)

    async def bench(ctx: Any) -> None:
        await system.start(ctx, len(words), arguments)
        end = await system.stopped(ctx)
        assert (end["STATUS"], end["IRQ_STATUS"], end["ERROR"], end["QUEUES"], end["WAITING"]) == (DONE, 1, 0, 0, 0)
        assert await system.semaphores(ctx) == trace.counts
        assert await system.counter(ctx, "instructions") == trace.executed
        assert await system.counter(ctx, "bytes_read") == 64 * len(system.memory.reads)
        for unit, model in system.units.items():
            assert await system.counter(ctx, f"{unit.name.lower()}_busy") == model.busy_cycles

    system.run(bench)
    system.check_commands(trace, complete=True)
    lines = (len(words) + 7) // 8
    assert {addr for addr, _ in system.memory.reads} <= {BASE + 64 * i for i in range(lines)}
