"""A controller with everything around it: memory, host, four unit models, and checks that hold in every run."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.control.controller import Controller
from hw.isa import Unit
from tb.control.host import Host
from tb.control.interpreter import Command, Trace
from tb.control.units import UnitModel
from tb.sim import AxiMemory, Bench, check_stream, simulate

__all__ = ["BASE", "DONE", "ERROR", "System"]

BASE = 0x1FC0                  # the second line lies in another 4-KiB page
DONE, ERROR = 0b010, 0b100     # bits of STATUS


class System:
    """A controller with memory, host and four unit models.

    Parameters
    ----------
    bus_width, lines, depth : int
        Of the config: `bus_width`, `command_lines`, `queue_depth`; `protection` as well.
    latency, stall : int, float
        Of the memory.
    unit_stall, room, longest : float, int, int
        Of the units, see `UnitModel`; `units` has further arguments for some.
    seed : int

    Attributes
    ----------
    events : list of (str, Unit, int)
        "start" or "done", unit and number of each command, in the order in which the units saw them.
    """

    def __init__(self, *, bus_width: int = 128, lines: int = 8, depth: int = 4, latency: int = 8, stall: float = 0.0,
                 unit_stall: float = 0.0, room: int = 4, longest: int = 20, seed: int = 0,
                 protection: tuple[tuple[str, str], ...] = (),
                 units: Mapping[Unit, dict[str, Any]] = MappingProxyType({})):
        config = AcceleratorConfig(bus_width=bus_width, command_lines=lines, queue_depth=depth, scratchpad_banks=4,
                                   protection=protection)
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

    def run(self, bench: Bench, *more: Bench, memory: bool = True, stops: bool = False, deadline: int = 20_000) -> None:
        """Simulate `bench` with all models (the memory silent, if so asked); offers are withdrawn only where it `stops`."""
        background = [self.memory.check_read(self.dut.fetch), *(model.bench() for model in self.units.values()), *more]
        if memory:
            background.append(self.memory.read(self.dut.fetch))
        if not stops:
            background += [check_stream(model.port.command, unit.name) for unit, model in self.units.items()]
        simulate(self.dut, bench, background=background, seed=self.seed, deadline=deadline)

    def check_commands(self, trace: Trace, *, complete: bool) -> None:
        """Check what the units have seen: the right commands, in order, none before its semaphores or across a fence."""
        for unit, model in self.units.items():
            expected = [command.fields for command in trace.commands[unit]]
            assert model.commands == expected[:len(model.commands)], unit
            if complete:
                assert len(model.commands) == len(expected) == model.finished, unit
        free = [sum(mask >> i & 1 for mask in trace.signals) for i in range(16)]
        given, taken = [0] * 16, [0] * 16
        done, fences = dict.fromkeys(Unit, 0), [*trace.fences]
        for kind, unit, number in self.events:
            command: Command = trace.commands[unit][number]
            while fences and kind == "start" and number >= fences[0][unit]:
                assert done == fences.pop(0), f"{unit.name} command {number} did not wait for the fence before it"
            done[unit] += kind == "done"
            for i in range(16):
                if kind == "start":
                    taken[i] += command.wait >> i & 1
                    assert taken[i] <= given[i] + free[i], f"{unit.name} command {number} did not wait for semaphore {i}"
                else:
                    given[i] += command.signal >> i & 1
