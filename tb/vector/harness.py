"""The vector unit between models of its ports: a scratchpad, an accumulator and a queue, each with random refusals."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import DESCRIPTORS, Unit
from hw.vector.unit import VectorUnit
from tb.sim import check_stable, simulate

__all__ = ["Outcome", "Ports", "command", "run_commands"]


def command(**fields: int) -> dict[str, int]:
    """Return a complete vector command: zeros, except for `fields`."""
    return {field.name: 0 for field in DESCRIPTORS[Unit.VECTOR]} | fields


@dataclass(kw_only=True)
class Ports:
    """Models of the three memory ports of one unit.

    A read's data is on the port in the cycle after it was accepted and random in all others.
    """

    config: AcceleratorConfig
    scratchpad: npt.NDArray[np.uint8]
    accumulator: npt.NDArray[np.int32]
    stall: float = 0.0
    seed: int = 0
    only: str | None = None                 # the port that stalls; None: all
    refused: dict[str, int] = field(default_factory=lambda: {"acc": 0, "read": 0, "write": 0})

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def _line(self, addr: int) -> int:
        base = addr * self.config.line_bytes
        return int.from_bytes(self.scratchpad[base:base + self.config.line_bytes].tobytes(), "little")

    def _row(self, addr: int) -> int:
        width = self.config.acc_width
        words = (int(word) & ((1 << width) - 1) for word in self.accumulator[addr])
        return sum(word << (width * column) for column, word in enumerate(words))

    def serve(self, dut: VectorUnit) -> Any:
        """Return the background testbench that serves all three ports of `dut`."""
        ports = {"acc": dut.acc, "read": dut.read, "write": dut.write}
        outputs = {"acc": dut.acc.data.as_value(), "read": dut.read.data}
        show = {"acc": self._row, "read": self._line}

        async def bench(ctx: Any) -> None:
            while True:
                ready = {name: self.only not in (None, name) or self._rng.random() >= self.stall for name in ports}
                for name, port in ports.items():
                    ctx.set(port.ready, ready[name])
                sampled = [signal for port in ports.values() for signal in (port.valid, port.addr)]
                _, _, *values, data, mask = await ctx.tick().sample(*sampled, dut.write.data, dut.write.mask)
                asked = {name: (values[2 * i], values[2 * i + 1]) for i, name in enumerate(ports)}
                for name, (valid, addr) in asked.items():
                    self.refused[name] += valid and not ready[name]
                    if name in outputs:
                        noise = self._rng.getrandbits(len(outputs[name]))
                        ctx.set(outputs[name], show[name](addr) if valid and ready[name] else noise)
                if asked["write"][0] and ready["write"]:
                    base = asked["write"][1] * self.config.line_bytes
                    for byte in range(self.config.line_bytes):
                        if mask >> byte & 1:
                            self.scratchpad[base + byte] = data >> (8 * byte) & 255

        return bench


@dataclass(kw_only=True)
class Outcome:
    """What a unit did with a list of commands."""

    cycles: list[int] = field(default_factory=list)     # of each command done, from the one that takes it to the one of `done`
    error: tuple[int, int] | None = None                # cause and address of the report


def run_commands(ports: Ports, *batches: Sequence[Mapping[str, int]], aborts: Sequence[int] = ()) -> list[Outcome]:
    """Run each batch of commands back to back on one unit and return what happened; the memories of `ports` change in place.

    A batch ends with its last command or with an error, which is aborted. Before each, for every number in `aborts`, the batch
    is started and aborted that many cycles later; the unit must be idle, and stay silent, within 3 cycles.
    """
    dut = VectorUnit(ports.config)
    unit = dut.unit
    outcomes: list[Outcome] = []

    async def run(ctx: Any) -> None:
        for commands in batches:
            for limit in aborts:
                await queue(ctx, commands, limit)
                await abort(ctx)
            outcomes.append(await queue(ctx, commands, None))
            if outcomes[-1].error is not None:
                await refuse(ctx, outcomes[-1].error)
                await abort(ctx)
            await silence(ctx)

    async def queue(ctx: Any, commands: Sequence[Mapping[str, int]], limit: int | None) -> Outcome:
        """Offer the commands until all are done, or an error, or `limit` cycles."""
        outcome = Outcome()
        pending, taken, cycle = list(commands), [], 0
        while len(outcome.cycles) < len(commands) and outcome.error is None and cycle != limit:
            ctx.set(unit.command.valid, bool(pending))
            if pending:
                ctx.set(unit.command.p, pending[0])
            _, _, ready, done, error, report, busy = await ctx.tick().sample(
                unit.command.ready, unit.done, unit.error, unit.report, unit.busy)
            cycle += 1
            if done:
                outcome.cycles.append(cycle - taken[len(outcome.cycles)])
            assert busy == (len(taken) > len(outcome.cycles) and not error)
            if pending and ready:
                taken.append(cycle)
                pending.pop(0)
            if error:
                outcome.error = (report.cause, report.addr)
        ctx.set(unit.command.valid, 0)
        return outcome

    async def refuse(ctx: Any, reported: tuple[int, int]) -> None:
        """Check that a stopped unit holds its report, takes no command, and touches no memory."""
        ctx.set(unit.command.valid, 1)
        for _ in range(6):
            _, _, ready, error, report, *touched = await ctx.tick().sample(
                unit.command.ready, unit.error, unit.report, dut.write.valid, dut.acc.valid, dut.read.valid)
            assert (error, ready, *touched) == (1, 0, 0, 0, 0)
            assert (report.cause, report.addr) == reported
        ctx.set(unit.command.valid, 0)

    async def abort(ctx: Any) -> None:
        ctx.set(unit.abort, 1)
        await ctx.tick().repeat(3)
        ctx.set(unit.command.valid, 1)
        assert not ctx.get(unit.command.ready)
        ctx.set(unit.command.valid, 0)
        await silence(ctx)
        ctx.set(unit.abort, 0)

    async def silence(ctx: Any) -> None:
        signals = (unit.done, unit.error, unit.busy, dut.write.valid, dut.acc.valid, dut.read.valid)
        for _ in range(6):
            _, _, *values = await ctx.tick().sample(*signals)
            assert not any(values)

    stable = [] if aborts else [
        check_stable(dut.write.valid, dut.write.ready, dut.write.addr, dut.write.data, dut.write.mask, name="write")]
    simulate(dut, run, background=[ports.serve(dut), *stable], seed=ports.seed, deadline=50_000)
    return outcomes
