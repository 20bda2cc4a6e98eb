"""The timeline of a traced channel of a PIM: its queues, why it multiplies nothing, the rows and bursts of its DRAM."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flows.pim.trace import STATES, PimEvents, QueueEvents, events_of
from flows.view.timeline import Command, Span, Timeline, UnitTimeline
from hw.pim.config import PimConfig
from hw.pim.isa import OPCODES, MacMode, PimOpcode, Queue
from hw.pim.timing_tables import ACTIVATES, REFRESHES, ROW_COMMANDS, DramCommand
from sw.pim.expand import Command as ListCommand
from sw.pim.expand import Settings, expand

__all__ = ["COLORS", "pim_timeline"]

COLORS = {"I/O": "fetch", "compute": "matrix"}
"""Unit → colour of its lanes."""
_QUEUES = (Queue.IO, Queue.COMPUTE)
_STALLS = ("row", "refresh", "credit", "hazard")
_MOST_SETS = 16             # whose rows get a lane


def pim_timeline(config: PimConfig, words: Sequence[int], events: npt.NDArray[np.void], cycles: int, name: str) -> Timeline:
    """Return the timeline of one channel's run.

    Parameters
    ----------
    config : PimConfig
    words : sequence of int
        The list that ran.
    events : (n,) of `flows.pim.trace.EVENT`
    cycles : int
        Of the run.
    name : str

    Raises
    ------
    ValueError
        If the events are not those of the list.
    """
    found = events_of(events)
    issued: dict[Queue, list[ListCommand]] = {queue: [] for queue in _QUEUES}
    for command in expand(words, Settings()):
        queue = OPCODES[command.opcode].queue
        if queue in issued:
            issued[queue].append(command)
    units = {}
    for (label, _), queue, happened, bit in zip(COLORS.items(), _QUEUES, found.queues, (5, 6), strict=True):
        if len(happened.arrived) > len(issued[queue]):
            raise ValueError(f"events must be of the {len(issued[queue])} {label} commands of the list, "
                             f"not of {len(happened.arrived)}")
        units[label] = _unit(queue, issued[queue], happened, _intervals(found, 1 << bit, cycles), cycles)
    for waiter, rival in (("I/O", "compute"), ("compute", "I/O")):
        _name_causes(units[waiter], rival, units[rival])
    units["I/O"].active = _intervals(found, 1 << STATES.index("host word in") | 1 << STATES.index("host word out"), cycles)
    units["compute"].active = _intervals(found, 1, cycles)
    return Timeline(name=name, cycles=cycles, units=units, sequencer=[], fetch=[], colors=COLORS,
                    lanes={"no product for": _stalls(found, cycles), **_dram_lanes(config, found, cycles)})


def _unit(queue: Queue, commands: list[ListCommand], happened: QueueEvents, offered: list[tuple[int, int]],
          cycles: int) -> UnitTimeline:
    found = UnitTimeline()
    for index, (command, arrived) in enumerate(zip(commands, happened.arrived, strict=False)):
        found.commands.append(Command(
            unit=queue, index=index, pc=command.index, kernel="", what=_what(command), fields=dict(command.fields), wait=0,
            signal=0, queued=arrived, taken=_at(happened.left, index), done=_at(happened.done, index)))
    before = free = 0
    offers = iter([*offered, (cycles, cycles)])
    offer = next(offers)
    for at in found.commands:
        taken, done = (cycles if value is None else value for value in (at.taken, at.done))
        first = max(before, taken)
        if first <= done:
            found.busy.append(Span(first, min(done + 1, cycles), "busy", at.index))
            before = done + 1
        # The head waits from when it is first in its queue to when it may leave: the rest is its unit's affair.
        first = max(free, at.queued + 1)
        while offer[1] <= first and offer[0] < cycles:
            offer = next(offers)
        may = min(max(offer[0], first), taken)
        if first < may:
            found.waits.append(Span(first, may, "waiting", at.index, "a shared entry"))
        free = taken + 1
    changes = sorted([(cycle, 1) for cycle in happened.arrived] + [(cycle, -1) for cycle in happened.done])
    depth = 0
    for cycle, change in changes:
        depth += change
        found.depth.append((cycle, depth))
    return found


def _at(cycles: list[int], index: int) -> int | None:
    return cycles[index] if index < len(cycles) else None


def _name_causes(unit: UnitTimeline, rival: str, other: UnitTimeline) -> None:
    """Say which command of the other queue each wait was for: the last one that was done before it ended."""
    done = [(command.done, command) for command in other.commands if command.done is not None]
    at = 0
    for index, wait in enumerate(unit.waits):
        while at < len(done) and done[at][0] < wait.end:
            at += 1
        if at:
            command = done[at - 1][1]
            unit.waits[index] = Span(wait.first, wait.end, wait.state, wait.index, f"{rival} {command.index}: {command.what}")


def _what(command: ListCommand) -> str:
    """Return a command in a few words."""
    fields, count = command.fields, command.fields.get("cnt", 0) + 1
    match command.opcode:
        case PimOpcode.MAC:
            mode = "TREE" if fields["mode"] == MacMode.TREE else "BCAST"
            return f"MAC {mode} set {fields['grp']} row {fields['row']}, {count} bursts → {fields['aidx']}"
        case PimOpcode.WRX | PimOpcode.MVX:
            return f"{command.opcode.name} {count} slices → {fields['xidx']}"
        case PimOpcode.RDACC | PimOpcode.WRACC | PimOpcode.MVS | PimOpcode.AF:
            return f"{command.opcode.name} {count} entries from {fields['aidx']}"
        case PimOpcode.SFM | PimOpcode.SFO:
            return f"{command.opcode.name} head {fields['aidx']}, {fields['value']} scores"
        case opcode:
            return " ".join([opcode.name, *(f"{name} {fields[name]}" for name in OPCODES[opcode].fields if name in fields)])


def _intervals(found: PimEvents, mask: int, cycles: int) -> list[tuple[int, int]]:
    """Return first cycle and the one after the last of where any bit of `mask` is set."""
    spans: list[tuple[int, int]] = []
    ends = [*(cycle for cycle, _ in found.states[1:]), cycles]
    for (cycle, state), end in zip(found.states, ends, strict=True):
        if state & mask and cycle < end:
            if spans and spans[-1][1] == cycle:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((cycle, end))
    return spans


def _stalls(found: PimEvents, cycles: int) -> list[Span]:
    spans: list[Span] = []
    ends = [*(cycle for cycle, _ in found.states[1:]), cycles]
    for (cycle, state), end in zip(found.states, ends, strict=True):
        why = next((name for name in _STALLS if state >> STATES.index(name) & 1), None)
        if state & 1 or why is None or cycle >= end:
            continue
        if spans and spans[-1].end == cycle and spans[-1].state == why:
            spans[-1] = Span(spans[-1].first, end, why)
        else:
            spans.append(Span(cycle, end, why))
    return spans


def _dram_lanes(config: PimConfig, found: PimEvents, cycles: int) -> dict[str, list[Span]]:
    """Return a lane of bursts, one of refreshes, and one of open rows for each set of banks that was used, the first ones."""
    banks = config.streams * config.stripes
    interval, refresh = config.pim_per_burst, -(-config.dram.rfc * config.pim_per_burst // config.interval)
    bursts: list[Span] = []
    refreshes: list[Span] = []
    opened: dict[int, tuple[int, int]] = {}
    rows: dict[int, list[Span]] = {}
    for event in found.dram:
        first = event.bank // max(1, event.banks) * max(1, event.banks) // banks        # a rank's first bank, of all of it
        sets = range(first, max(first + 1, -(-(event.bank + event.banks) // banks)))
        if event.command not in ROW_COMMANDS:
            name = "write" if event.command is DramCommand.WR else "read"
            end = min(event.cycle + interval, cycles)
            if bursts and bursts[-1].end >= event.cycle and (bursts[-1].state, bursts[-1].index) == (name, first):
                bursts[-1] = Span(bursts[-1].first, end, name, first)
            elif event.cycle < end:
                bursts.append(Span(max(event.cycle, bursts[-1].end) if bursts else event.cycle, end, name, first))
            continue
        for number in sets:
            if event.command in ACTIVATES and number not in opened:
                opened[number] = event.cycle, event.place
            elif event.command is DramCommand.PRE and number in opened:
                start, row = opened.pop(number)
                rows.setdefault(number, []).append(Span(start, event.cycle + 1, f"row {row}"))
        if event.command in REFRESHES:
            start = max(event.cycle, refreshes[-1].end) if refreshes else event.cycle
            end = min(event.cycle + refresh, cycles)
            if start < end:
                refreshes.append(Span(start, end, event.command.name))
    for number, (start, row) in opened.items():
        rows.setdefault(number, []).append(Span(start, cycles, f"row {row}"))
    lanes = {"bursts": [Span(one.first, one.end, f"{one.state} set {one.index}") for one in bursts if one.first < one.end],
             "refresh": refreshes}
    return lanes | {f"set {number}": rows[number] for number in sorted(rows)[:_MOST_SETS]}
