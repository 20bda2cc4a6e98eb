"""The timeline of a traced run: which command each unit works on when, and what the heads of the queues wait for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.view.describe import describe
from hw.isa import DESCRIPTORS, Unit
from hw.pim.isa import Queue
from sw.golden.sequencer import Event, mask_bits, run_sequencer
from sw.program import Program

__all__ = ["FETCH_STATES", "SEQUENCER_STATES", "Command", "Span", "Timeline", "UnitTimeline", "Wait", "timeline_of"]

SEQUENCER_STATES = ("off", "starting", "executing", "waiting", "queue full", "draining", "fetching", "bubble", "stopping")
"""What the sequencer does: clear its registers; execute; wait for semaphores, for room in a queue, for idle units (FENCE, HALT),
for a line of instructions, for an operand; let what is on its way arrive. In the order of `flows/native/trace.h`."""
FETCH_STATES = ("idle", "on its way", "arriving")
_TURN = "its turn"
_STATE, _QUEUED, _TAKEN, _DONE, _SEQUENCER, _FETCH, _RUN = 0, 4, 8, 12, 16, 17, 18


@dataclass(frozen=True, slots=True)
class Span:
    """Cycles `first` to `end` - 1 of one state; `index` is the unit's command, or the instruction of the sequencer."""

    first: int
    end: int
    state: str
    index: int = -1
    why: str = ""

    @property
    def cycles(self) -> int:
        """Its length."""
        return self.end - self.first


@dataclass(kw_only=True, slots=True)
class Command:
    """One command of a unit; times are cycles since the doorbell, None where it never came to that.

    Attributes
    ----------
    unit : Unit or Queue
        A queue, of a PIM.
    index : int
        Among the unit's commands.
    pc : int
        Instruction that queued it.
    kernel : str
    what : str
        For people: what it moves or computes.
    fields : dict of str to int
        Its descriptor.
    wait, signal : int
        Semaphore masks.
    queued, taken, done : int or None
        The sequencer hands it over; the unit takes it; the unit is done with it.
    """

    unit: Unit | Queue
    index: int
    pc: int
    kernel: str
    what: str
    fields: dict[str, int]
    wait: int
    signal: int
    queued: int
    taken: int | None = None
    done: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A head of a queue that waited: for which semaphores longest, and which command's signal ended it."""

    unit: str
    index: int
    first: int
    cycles: int
    semaphores: tuple[int, ...]
    cause: str


@dataclass(kw_only=True, slots=True)
class UnitTimeline:
    """One unit and its queue.

    Attributes
    ----------
    commands : list of Command
    busy : list of Span
        Cycles in which the unit has a command, cut where the oldest one of them changes; disjoint, ascending.
    waits : list of Span
        Cycles in which the queue's head waits for semaphores, cut where the missing ones change; "its turn" where all are there
        but others are granted theirs first, one in a cycle.
    active : list of (int, int)
        First cycle and the one after the last of steps, beats or writes.
    depth : list of (int, int)
        Cycle and commands waiting or taken since then.
    """

    commands: list[Command] = field(default_factory=list)
    busy: list[Span] = field(default_factory=list)
    waits: list[Span] = field(default_factory=list)
    active: list[tuple[int, int]] = field(default_factory=list)
    depth: list[tuple[int, int]] = field(default_factory=list)

    @property
    def busy_cycles(self) -> int:
        """What the hardware's `_busy` counter says."""
        return sum(span.cycles for span in self.busy)

    @property
    def wait_cycles(self) -> int:
        """What the hardware's `_wait` counter says."""
        return sum(span.cycles for span in self.waits)

    @property
    def active_cycles(self) -> int:
        """Cycles with a step, beat or write."""
        return sum(end - first for first, end in self.active)

    def stalled_cycles(self) -> int:
        """Return the cycles in which the head waits and the unit has nothing to do meanwhile."""
        busy = iter([*self.busy, Span(1 << 62, 1 << 62, "")])
        now, hidden = next(busy), 0
        for wait in self.waits:
            while now.end <= wait.first:
                now = next(busy)
            first = wait.first
            while now.first < wait.end:
                hidden += max(0, min(wait.end, now.end) - max(first, now.first))
                if now.end > wait.end:
                    break
                now = next(busy)
        return self.wait_cycles - hidden


@dataclass(kw_only=True, slots=True)
class Timeline:
    """One run of a Program.

    Attributes
    ----------
    name : str
    cycles : int
        From doorbell to stop; the hardware's `cycles` counter.
    units : dict of str to UnitTimeline
        By the unit's name in lower case.
    sequencer, fetch : list of Span
        None of a PIM.
    kernels : tuple of str
    lanes : dict of str to list of Span
        Further lanes, by name: spans with a state each.
    colors : dict of str to str
        Unit → colour, where it is not the unit's name.
    """

    name: str
    cycles: int
    units: dict[str, UnitTimeline]
    sequencer: list[Span]
    fetch: list[Span]
    kernels: tuple[str, ...] = ()
    lanes: dict[str, list[Span]] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return shares of the run by unit; `busy` + `wait` + `idle` is 1, `active` is the part of busy with a step or beat."""
        table: dict[str, Any] = {}
        for name, unit in self.units.items():
            stalled = unit.stalled_cycles()
            table[name] = {
                "commands": len(unit.commands), "busy_cycles": unit.busy_cycles, "active_cycles": unit.active_cycles,
                "wait_cycles": unit.wait_cycles, "stalled_cycles": stalled,
                "busy": unit.busy_cycles / self.cycles, "active": unit.active_cycles / self.cycles,
                "wait": stalled / self.cycles, "idle": (self.cycles - unit.busy_cycles - stalled) / self.cycles,
                "first": unit.busy[0].first if unit.busy else None, "last": unit.busy[-1].end - 1 if unit.busy else None}
        if not self.sequencer:
            return table
        states: Counter[str] = Counter()
        for span in self.sequencer:
            states[span.state] += span.cycles
        executing = states["executing"] + states["starting"]
        waiting = states["waiting"] + states["queue full"] + states["draining"]
        table["sequencer"] = {
            "states": {state: states[state] for state in SEQUENCER_STATES if states[state]},
            "busy": executing / self.cycles, "wait": waiting / self.cycles,
            "idle": (self.cycles - executing - waiting) / self.cycles}
        busy = sum(span.cycles for span in self.fetch)
        table["fetch"] = {"busy": busy / self.cycles, "wait": 0.0, "idle": 1 - busy / self.cycles}
        return table

    def longest_waits(self, count: int = 5) -> list[Wait]:
        """Return the longest waits of heads for semaphores, longest first."""
        found = []
        for name, unit in self.units.items():
            groups: dict[int, list[Span]] = {}
            for span in unit.waits:
                groups.setdefault(span.index, []).append(span)
            for index, spans in groups.items():
                end, cycles = spans[-1].end, sum(span.cycles for span in spans)
                missing = max(spans, key=lambda span: span.cycles).why
                numbers = tuple(int(word[1:]) for word in missing.split() if word[0] == "s" and word[1:].isdigit())
                cause = self._signaller(numbers, end - 1) if numbers or missing == _TURN else missing
                found.append(Wait(name, index, spans[0].first, cycles, numbers, cause))
        return sorted(found, key=lambda wait: (-wait.cycles, wait.first, wait.unit))[:count]

    def _signaller(self, semaphores: tuple[int, ...], before: int) -> str:
        """Return the command that was last to signal one of `semaphores` before cycle `before`."""
        last: Command | None = None
        for unit in self.units.values():
            for command in unit.commands:
                if command.done is not None and command.done < before and any(command.signal >> s & 1 for s in semaphores) and (
                        last is None or last.done is None or command.done > last.done):
                    last = command
        return "" if last is None else f"{last.unit.name.lower()} {last.index}: {last.what}"


def timeline_of(events: npt.NDArray[np.void], program: Program, args: Mapping[str, int], name: str = "") -> Timeline:
    """Return the timeline of the last run in `events`.

    Parameters
    ----------
    events : ndarray of `flows.native_sim.TRACE_EVENT`
    program : Program
    args : dict of str to int
        What it ran with; its commands are those of `sw.golden.sequencer`, in the order in which the hardware queued them.
    name : str
        By default the program's.

    Raises
    ------
    ValueError
        If the events are no whole run of this program.
    """
    runs = events[events["channel"] == _RUN]
    begins = runs["cycle"][(runs["value"] & 1) == 1]
    if begins.size == 0:
        raise ValueError(f"events must hold a run of {program.name!r}, not {len(events)} events without one")
    start = int(begins[-1])
    stops = runs["cycle"][(runs["cycle"] > start) & ((runs["value"] & 1) == 0)]
    if stops.size == 0:
        raise ValueError(f"events must hold the whole run of {program.name!r}, not one that never stops")
    cycles = int(stops[0]) - start
    by_channel: dict[int, list[tuple[int, int, int]]] = {channel: [] for channel in range(_RUN + 1)}
    for cycle, channel, mask, value in events.tolist():
        by_channel[channel].append((cycle - start, mask, value))
    issued: dict[Unit, list[Event]] = {unit: [] for unit in Unit}
    for event in run_sequencer(program.code, program.argument_values(args), parity=program.parity):
        if event.unit is not None:
            issued[event.unit].append(event)
    units = {unit.name.lower(): _unit(unit, by_channel, cycles, issued[unit], program, args) for unit in Unit}
    sequencer = [Span(first, end, SEQUENCER_STATES[value & 15], value >> 4,
                      list(units)[mask] if value & 15 == 4 else _names(mask) if value & 15 == 3 else "")
                 for first, end, mask, value in _states(by_channel[_SEQUENCER], cycles) if value & 15]
    fetch = [Span(first, end, FETCH_STATES[1 + (value >> 1)])
             for first, end, _, value in _states(by_channel[_FETCH], cycles) if value & 1]
    kernels = tuple(dict.fromkeys(command.kernel for unit in units.values() for command in unit.commands))
    return Timeline(name=name or program.name, cycles=cycles, units=units, sequencer=sequencer, fetch=fetch, kernels=kernels)


def _states(events: list[tuple[int, int, int]], cycles: int) -> list[tuple[int, int, int, int]]:
    """Return first, end, mask and value of each state within the run."""
    ends = [*(cycle for cycle, _, _ in events[1:]), cycles]
    clipped = [(max(0, first), min(end, cycles), mask, value) for (first, mask, value), end in zip(events, ends, strict=False)]
    return [state for state in clipped if state[0] < state[1]]


def _names(mask: int) -> str:
    return " ".join(f"s{i}" for i in mask_bits(mask)) or _TURN


def _unit(unit: Unit, events: Mapping[int, list[tuple[int, int, int]]], cycles: int, issued: list[Event], program: Program,
          args: Mapping[str, int]) -> UnitTimeline:
    found = UnitTimeline()
    queued = [event for event in events[_QUEUED + unit] if 0 <= event[0] <= cycles]
    for index, ((cycle, _, pc), event) in enumerate(zip(queued, issued, strict=False)):
        if event.pc != pc:
            raise ValueError(f"{unit.name.lower()} command {index} must be queued by instruction {event.pc}, not {pc}")
        found.commands.append(Command(
            unit=unit, index=index, pc=pc, kernel=program.kernel_at(pc), what=describe(unit, event.fields, program, args),
            fields={name.name: event.fields[name.name] for name in DESCRIPTORS[unit]}, wait=event.wait, signal=event.signal,
            queued=cycle))
    for channel, name in ((_TAKEN, "taken"), (_DONE, "done")):
        pulses = [event for event in events[channel + unit] if 0 <= event[0] <= cycles]
        for command, (cycle, _, pc) in zip(found.commands, pulses, strict=False):
            if name == "done" and pc != command.pc:
                raise ValueError(f"{unit.name.lower()} command {command.index} must be of instruction {command.pc}, not {pc}")
            setattr(command, name, cycle)
    taken = [cycles if command.taken is None else command.taken for command in found.commands]
    states = _states(events[_STATE + unit], cycles)
    _busy(found, [(first, end) for first, end, _, value in _states(events[_STATE + unit], cycles) if value & 1], cycles)
    found.active = _joined([(first, end) for first, end, _, value in states if value & 2])
    head = 0
    for first, end, mask, value in states:
        if value & 4:
            while head < len(taken) and taken[head] < first:
                head += 1
            why, last = _names(mask), found.waits[-1] if found.waits else None
            if last is not None and (last.end, last.index, last.why) == (first, head, why):
                found.waits[-1] = Span(last.first, end, "waiting", head, why)
            else:
                found.waits.append(Span(first, end, "waiting", head, why))
    depth = [(first, value >> 8) for first, _, _, value in states]
    found.depth = [point for before, point in pairwise([(-1, -1), *depth]) if point[1] != before[1]]
    return found


def _busy(found: UnitTimeline, spans: list[tuple[int, int]], cycles: int) -> None:
    """Put every busy cycle down to the oldest command that is not done in it; cycles after the last `done` to the last."""
    ends = [cycles if command.done is None else command.done + 1 for command in found.commands]
    index = 0
    for start, end in _joined(spans):
        while start < end:
            while index < len(ends) - 1 and ends[index] <= start:
                index += 1
            stop = end if index >= len(ends) - 1 else min(end, ends[index])
            found.busy.append(Span(start, stop, "busy", index))
            start = stop


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `spans` with neighbours made one."""
    found: list[tuple[int, int]] = []
    for first, end in spans:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        else:
            found.append((first, end))
    return found
