"""A unit as the controller sees it: takes commands, is done with them after a random time, may fail or hang."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.timing import IN_FLIGHT
from tb.sim import Bench

__all__ = ["UnitModel"]


class UnitModel:
    """The unit's side of a `UnitPort`.

    Parameters
    ----------
    port : UnitPort
        Of the controller.
    unit : Unit
    longest : int
        Most cycles that a command takes.
    stall : float
        Probability in each cycle that no command is taken.
    room : int
        Commands that it takes before the first is done.
    seed : int
    fails : tuple of (int, ErrorCause, int), or None
        Number of the command that fails, cause, address.
    hangs : int or None
        Number of the command that never ends.
    accept : callable, or None
        Called with the number of each command taken, and `done` with that of each one finished.

    Attributes
    ----------
    commands : list of dict
        Fields of the commands taken.
    finished : int
        Commands finished.
    busy_cycles : int
        Cycles in which `busy` was high.
    aborted : int
        How often `abort` rose.
    most_taken : int
        Most commands that were taken and not finished.
    """

    def __init__(self, port: Any, unit: Unit, *, longest: int = 20, stall: float = 0.0, room: int = IN_FLIGHT, seed: int = 0,
                 fails: tuple[int, ErrorCause, int] | None = None, hangs: int | None = None,
                 accept: Callable[[Unit, int], None] | None = None, done: Callable[[Unit, int], None] | None = None):
        self.port, self.unit = port, unit
        self.longest, self.stall, self.room, self.fails, self.hangs = longest, stall, room, fails, hangs
        self.accept, self.done = accept, done
        self.commands: list[dict[str, int]] = []
        self.finished = self.busy_cycles = self.aborted = self.most_taken = 0
        self._rng = random.Random(seed)

    def bench(self) -> Bench:
        """Return the background testbench."""
        port, names = self.port, [f.name for f in DESCRIPTORS[self.unit]]

        async def bench(ctx: Any) -> None:
            running: deque[tuple[int, int]] = deque()       # (command, cycles left)
            ready = failed = was_abort = busy = False
            drain = 0
            sampled = (port.command.valid, port.abort, *(getattr(port.command.payload, name) for name in names))
            async for _, _, valid, abort, *fields in ctx.tick().sample(*sampled):
                self.busy_cycles += busy
                if ready and valid:
                    number = len(self.commands)
                    self.commands.append(dict(zip(names, fields, strict=True)))
                    running.append((number, self._rng.randint(1, self.longest)))
                    self.most_taken = max(self.most_taken, len(running))
                    assert len(running) <= IN_FLIGHT
                    if self.accept:
                        self.accept(self.unit, number)
                done = False
                if abort:
                    if not was_abort:
                        self.aborted += 1
                        drain = self._rng.randint(0, self.longest)
                    drain = max(drain - 1, 0)
                    running.clear()
                    failed = False
                elif running and not failed:
                    number, left = running[0]
                    if number == self.hangs:
                        pass
                    elif left > 1:
                        running[0] = (number, left - 1)
                    elif self.fails and number == self.fails[0]:
                        failed = True
                    else:
                        running.popleft()
                        done = True
                        self.finished += 1
                        if self.done:
                            self.done(self.unit, number)
                was_abort = bool(abort)
                ready = not failed and not abort and len(running) < self.room and self._rng.random() >= self.stall
                busy = bool(running) or drain > 0
                ctx.set(port.command.ready, ready)
                ctx.set(port.done, done)
                ctx.set(port.busy, busy)
                ctx.set(port.error, failed)
                if failed and self.fails:
                    ctx.set(port.report.cause, self.fails[1])
                    ctx.set(port.report.addr, self.fails[2])

        return bench
