"""Dynamic command scheduling: two queues that pass each other where they share no buffer entry, and what that gains.

Source: PIMphony (LoL-PIM, arXiv 2412.20166): a table of the last command on each entry, separate I/O and compute queues, each
in order. How we differ: times are kept for each entry instead of commands' numbers: when its last written data can be read, and
when its last reader has taken it. Both rise, so a table of 16-bit times with wrap-safe comparison is enough in hardware.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.pim.isa import Queue

__all__ = ["IO_LATENCY", "MAC_LATENCY", "QUEUE_DEPTH", "Entry", "Timed", "Work", "in_order", "schedule"]

QUEUE_DEPTH = 8
MAC_LATENCY = 6
IO_LATENCY = 2

Entry = tuple[str, int]
"""Kind ("x": slice of the X buffer, "o": entry of the output buffer, "s": softmax of a head) and number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What scheduling needs to know of a command.

    Attributes
    ----------
    queue : Queue
    barrier : bool
        Of the sequencer: it waits for all before it, and all after wait for it.
    reads, writes : tuple
        Buffer entries in the order in which it touches them, one each `step` cycles.
    adds : bool
        It adds into what it writes: behind another that does, in the same queue, without waiting for its result.
    step : int
        Cycles from one entry to the next; 0: all at once.
    held : int
        Cycles, from the issue, for which all that it reads must stay; 0: each entry until its turn.
    latency : int
        Cycles from an entry's turn until what is written there can be read.
    late : int
        More of them for the last entry.
    cycles : int
        For which its queue is busy.
    """

    queue: Queue
    barrier: bool = False
    reads: tuple[Entry, ...] = ()
    writes: tuple[Entry, ...] = ()
    adds: bool = False
    step: int = 1
    held: int = 0
    latency: int = IO_LATENCY
    late: int = 0
    cycles: int = 1


@dataclass(frozen=True, slots=True)
class Timed:
    """When a command is issued, and when its last result is there."""

    issue: int
    end: int


def _end(work: Work, issue: int) -> int:
    return max(issue + work.cycles, issue + (len(work.writes) - 1) * work.step + work.latency if work.writes else 0)


class _Table:
    """Times of each entry: written, and read for the last time."""

    def __init__(self) -> None:
        self._written: dict[Entry, tuple[int, Work]] = {}
        self._read: dict[Entry, int] = {}

    def earliest(self, work: Work) -> int:
        """Return the first cycle in which a command may be issued."""
        times = [0]
        for entry in work.reads:
            if entry in self._written:
                times.append(self._written[entry][0])
        for entry in work.writes:
            if entry in self._written:
                time, last = self._written[entry]
                pipelined = work.adds and last.adds and work.queue is last.queue
                times += [] if pipelined else [time]
            times.append(self._read.get(entry, 0))
        return max(times)

    def enter(self, work: Work, issue: int) -> None:
        """Record a command that is issued."""
        for i, entry in enumerate(work.reads):
            self._read[entry] = max(self._read.get(entry, 0), issue + max(i * work.step + 1, work.held))
        for i, entry in enumerate(work.writes):
            before = self._written[entry][0] if entry in self._written else 0
            late = work.late if i == len(work.writes) - 1 else 0
            self._written[entry] = max(before, issue + i * work.step + work.latency + late), work


def schedule(works: Sequence[Work], *, depth: int = QUEUE_DEPTH) -> list[Timed]:
    """Return when each command is issued with dynamic scheduling.

    The sequencer gives out a command a cycle, in order, to queues of `depth`. A command is issued when its queue is free and
    its entries are: read after the write, written after the last read, written after the write but for MACs into the same
    accumulator.
    """
    return _run(works, depth=depth, drain=False)


def in_order(works: Sequence[Work], *, depth: int = QUEUE_DEPTH) -> list[Timed]:
    """Return when each command is issued without: one stream, and a change of queue waits until everything is done."""
    return _run(works, depth=depth, drain=True)


def _run(works: Sequence[Work], *, depth: int, drain: bool) -> list[Timed]:
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth!r}")
    table = _Table()
    free = dict.fromkeys(Queue, 0)
    waiting: dict[Queue, list[int]] = {queue: [] for queue in Queue}
    timed: list[Timed] = []
    given, done, last = -1, 0, None
    for work in works:
        given += 1
        issued = waiting[work.queue]
        if len(issued) >= depth:                        # the place of the one that many before it
            given = max(given, issued[-depth])
        earliest = max(given, free[work.queue], table.earliest(work))
        if work.barrier or (drain and work.queue not in (last, Queue.SEQUENCER)):
            earliest = max(earliest, done)
        if drain and timed:
            earliest = max(earliest, timed[-1].issue + 1)
        end = _end(work, earliest)
        table.enter(work, earliest)
        issued.append(earliest)
        free[work.queue] = earliest + work.cycles
        if work.barrier:
            given = earliest
            free = dict.fromkeys(Queue, end)
        done = max(done, end)
        last = last if work.queue is Queue.SEQUENCER else work.queue
        timed.append(Timed(earliest, end))
    return timed
