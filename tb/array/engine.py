"""A bench around a matrix engine: a scratchpad that stalls at will, a recorder of what the engine does, random legal commands."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import DESCRIPTORS, Dataflow, Unit
from hw.pe import PE_TYPES
from tb.sim import put_one

__all__ = ["CONFIGS", "SMALL", "EngineBench", "command_of", "memory_image", "random_command"]

SMALL = {"scratchpad_bytes": 1024, "scratchpad_banks": 4, "accumulator_rows": 32, "os_depth": 5, "bus_width": 64}
_SHAPES = {
    "4x4": AcceleratorConfig(**SMALL),
    "3x5": AcceleratorConfig(rows=3, columns=5, vector_lanes=5, **SMALL),
    "5x2-w4": AcceleratorConfig(rows=5, columns=2, vector_lanes=2, weight_format="int4", **SMALL),
    "2x4-ws": AcceleratorConfig(rows=2, dataflows=("ws",), **SMALL),
    "4x3-os-w4": AcceleratorConfig(columns=3, vector_lanes=3, dataflows=("os",), weight_format="int4", **SMALL),
    "1x1": AcceleratorConfig(rows=1, columns=1, vector_lanes=1, **SMALL),
}
CONFIGS = {name if config.pe == kind else f"{name}-{kind}": dataclasses.replace(config, pe=kind)
           for kind in PE_TYPES for name, config in _SHAPES.items()}
"""Every shape with every PE; the default one goes without saying."""


def memory_image(config: AcceleratorConfig, seed: int) -> np.ndarray:
    """Return random contents of the scratchpad, uint8 (scratchpad_bytes,)."""
    return np.random.default_rng(seed).integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)


def command_of(m: int, n: int, k: int, dataflow: Dataflow, **others: int) -> dict[str, int]:
    """Return a command of this size that reads slot 0 again and again and writes the rows from 0 on."""
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.MATRIX]), 0)
    return fields | {"m": m, "n": n, "k": k, "dataflow": int(dataflow)} | others


def random_command(config: AcceleratorConfig, rng: random.Random) -> dict[str, int]:
    """Return a matrix command whose operands and results lie inside the memories; operands may overlap."""
    dataflow = Dataflow[rng.choice(config.dataflows).upper()]
    m, n, k = (1 if rng.random() < 0.2 else rng.randint(1, largest)
               for largest in (2 * config.rows + 1, 3 * config.columns, max(3 * config.rows, 2 * config.os_depth + 1)))
    steps, along = (m, k) if dataflow == Dataflow.WS else (k, m)
    fields = {"m": m, "n": n, "k": k, "dataflow": int(dataflow), "accumulate": rng.randrange(2),
              "serialize": int(rng.random() < 0.2)}
    for operand, slot, count, groups in (
            ("activation", config.activation_slot_bytes, steps, ceil_div(along, config.rows)),
            ("weight", config.weight_slot_bytes, k, ceil_div(n, config.columns))):
        room = config.scratchpad_bytes // slot
        stride = rng.randint(0, min(2 * groups, (room - 1) // 2 // max(1, count - 1)))
        tile_stride = rng.randint(0, (room - 1) // 2 // max(1, groups - 1))
        spare = room - 1 - stride * (count - 1) - tile_stride * (groups - 1)
        fields |= {f"{operand}_addr": rng.randint(0, spare) * slot, f"{operand}_stride": stride * slot,
                   f"{operand}_tile_stride": tile_stride * slot}
    groups = ceil_div(n, config.columns)
    tile_stride = rng.randint(0, (config.accumulator_rows - m) // max(1, groups - 1))
    fields |= {"acc_tile_stride": tile_stride if groups > 1 else rng.randrange(1 << 16),
               "acc_addr": rng.randint(0, config.accumulator_rows - m - (groups - 1) * tile_stride)}
    return fields


class EngineBench:
    """Drives one engine and records what it does, cycle by cycle.

    Parameters
    ----------
    dut : engine
    scratchpad : ndarray
        uint8, shape (scratchpad_bytes,).
    stall : float
        Probability in each cycle that a read port is not ready, each on its own.
    one_port : bool
        The two operands are in one bank: the weight port waits while the activation port reads.
    seed : int
        Of the stalls.
    lanes : int
        Multiply-accumulates of a PE that a slot is worth.

    Attributes
    ----------
    taken, done : list of int
        Cycles in which commands were taken, and of `done` pulses.
    rows : list of (cycle, row, accumulate, psums)
        What was written to the accumulator.
    active : list of int
        Cycles in which a slot was issued.
    macs, macs_gated, stalls, split : int
        Sums; refused requests; cycles in which just one of two operand reads was granted.
    counted : dict of str to int
        The engine's own counters.
    error_cycle : int or None
        First cycle with `error`.
    """

    def __init__(self, dut: Any, scratchpad: npt.NDArray[np.uint8], *, stall: float = 0.0, one_port: bool = False, seed: int = 0,
                 lanes: int = 1):
        self.dut, self.scratchpad, self.stall, self.one_port, self.lanes = dut, scratchpad, stall, one_port, lanes
        self.taken: list[int] = []
        self.done: list[int] = []
        self.rows: list[tuple[int, int, int, list[int]]] = []
        self.active: list[int] = []
        self.macs = self.macs_gated = self.stalls = self.split = 0
        self.counted = dict.fromkeys(dut.config.engine_counters, 0)
        self.error_cycle: int | None = None
        self.cycle = 0
        self._rng = random.Random(seed)

    def _line(self, addr: int) -> int:
        size = self.dut.config.line_bytes
        return int.from_bytes(self.scratchpad[addr * size:(addr + 1) * size].tobytes(), "little")

    async def memory(self, ctx: Any) -> None:
        """Serve both read ports; data is there for one cycle only."""
        ports = (self.dut.activation, self.dut.weight)
        bits = 8 * self.dut.config.line_bytes
        while True:
            for port in ports:
                ctx.set(port.ready, self._rng.random() >= self.stall)
            if self.one_port and ctx.get(ports[0].valid):
                ctx.set(ports[1].ready, 0)
            lines, granted = [], []
            for port in ports:
                valid, ready = ctx.get(port.valid), ctx.get(port.ready)
                granted.append(valid & ready)
                self.stalls += valid & ~ready & 1
                lines.append(self._line(ctx.get(port.addr)) if valid & ready else self._rng.getrandbits(bits))
            self.split += ctx.get(ports[0].valid) and ctx.get(ports[1].valid) and sum(granted) == 1
            await ctx.tick()
            for port, line in zip(ports, lines, strict=True):
                ctx.set(port.data, line)

    async def record(self, ctx: Any) -> None:
        """Record everything that leaves the engine."""
        dut = self.dut
        watched = (dut.unit.command.valid, dut.unit.command.ready, dut.unit.done, dut.unit.error, dut.active, dut.macs,
                   dut.macs_gated, dut.acc.valid, dut.acc.addr, dut.acc.accumulate, dut.acc.data,
                   *(getattr(dut, name) for name in self.counted))
        async for _, _, valid, ready, done, error, active, macs, gated, *others in ctx.tick().sample(*watched):
            acc, steps = others[:4], others[4:]
            for name, step in zip(self.counted, steps, strict=True):
                self.counted[name] += step
            if valid and ready:
                self.taken.append(self.cycle)
            if done:
                self.done.append(self.cycle)
            if error and self.error_cycle is None:
                self.error_cycle = self.cycle
            if active:
                self.active.append(self.cycle)
                assert macs + gated == self.lanes * dut.config.rows * dut.config.columns
            else:
                assert macs == gated == 0
            self.macs += macs
            self.macs_gated += gated
            if acc[0]:
                self.rows.append((self.cycle, acc[1], acc[2], [acc[3][c] for c in range(dut.config.columns)]))
            self.cycle += 1

    def feed(self, commands: Sequence[dict[str, int]], *, stall: float = 0.0) -> Any:
        """Return a testbench that sends `commands`, with pauses of probability `stall` a cycle, and waits for the end of them."""
        rng = random.Random(len(commands))

        async def bench(ctx: Any) -> None:
            for command in commands:
                while rng.random() < stall:
                    await ctx.tick()
                await put_one(ctx, self.dut.unit.command, command)
            await self.until_idle(ctx)

        return bench

    async def stopped(self, ctx: Any, good: dict[str, int], bad: dict[str, int], *, held: int) -> tuple[int, int]:
        """Send a good command and a bad one; return the report.

        The good one is done, the error stays for `held` cycles and nothing is taken meanwhile; `abort` clears it.
        """
        unit, before = self.dut.unit, len(self.done)
        for command in (good, bad):
            await put_one(ctx, unit.command, command)
        ctx.set(unit.command.valid, 1)
        await ctx.tick().until(unit.error)
        report = ctx.get(unit.report.cause), ctx.get(unit.report.addr)
        assert len(self.done) == before + 1
        for _ in range(held):
            assert ctx.get(unit.error)
            assert not ctx.get(unit.command.ready)
            await ctx.tick()
        assert len(self.done) == before + 1
        ctx.set(unit.abort, 1)
        ctx.set(unit.command.valid, 0)
        await ctx.tick().repeat(2)
        assert not ctx.get(unit.busy)
        assert not ctx.get(unit.error)
        ctx.set(unit.abort, 0)
        return report

    async def aborted(self, ctx: Any, command: dict[str, int], *, after: int, settled: int) -> None:
        """Abort a command `after` cycles: nothing comes of it for `settled` cycles; then run it whole and record its rows."""
        unit = self.dut.unit
        await put_one(ctx, unit.command, command)
        await ctx.tick().repeat(after)
        ctx.set(unit.abort, 1)
        await ctx.tick()
        self.rows.clear()
        self.done.clear()
        await ctx.tick().repeat(3)
        assert not ctx.get(unit.busy)
        ctx.set(unit.abort, 0)
        await ctx.tick().repeat(settled)
        assert not self.rows
        assert not self.done
        await put_one(ctx, unit.command, command)
        await self.until_idle(ctx)

    async def until_idle(self, ctx: Any) -> None:
        """Wait until the unit is not busy, or shows an error."""
        while ctx.get(self.dut.unit.busy) and not ctx.get(self.dut.unit.error):
            await ctx.tick()
        await ctx.tick()
