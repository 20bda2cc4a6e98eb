"""Events of a traced channel, as `flows/native/pim_core.cpp` records them."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.pim.timing_tables import DramCommand

__all__ = ["EVENT", "STATES", "DramEvent", "PimEvents", "QueueEvents", "events_of"]

EVENT = np.dtype([("cycle", "<u8"), ("kind", "<u2"), ("detail", "<u2"), ("value", "<u4")])
STATES = ("active", "row", "refresh", "credit", "hazard", "io offered", "compute offered", "host word in", "host word out")
"""Bits of a state: a beat is multiplied; why none is; the first command of a queue may leave; host words that move."""
_ARRIVES, _LEAVES, _ENDS, _STATE, _BANKS = 0, 2, 4, 6, 8


@dataclass(kw_only=True, slots=True)
class QueueEvents:
    """Cycles in which commands of a queue came, left it for their unit, and were done, each in order."""

    arrived: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DramEvent:
    """A command to the DRAM: its cycle, first bank and number of banks (0: those of a set), row or column."""

    cycle: int
    command: DramCommand
    bank: int
    banks: int
    place: int


@dataclass(kw_only=True, slots=True)
class PimEvents:
    """What happened in a run.

    Attributes
    ----------
    queues : tuple of QueueEvents
        Of the I/O and the compute queue.
    states : list of (int, int)
        Cycle, and bits of `STATES` from then on.
    dram : list of DramEvent
    """

    queues: tuple[QueueEvents, QueueEvents] = field(default_factory=lambda: (QueueEvents(), QueueEvents()))
    states: list[tuple[int, int]] = field(default_factory=list)
    dram: list[DramEvent] = field(default_factory=list)


def events_of(events: npt.NDArray[np.void]) -> PimEvents:
    """Return the events of a run by what they tell; (n,) of `EVENT`, in order."""
    found = PimEvents()
    for cycle, kind, detail, value in events.tolist():
        if kind < _STATE:
            queue = found.queues[kind % 2]
            {_ARRIVES: queue.arrived, _LEAVES: queue.left, _ENDS: queue.done}[kind - kind % 2].append(cycle)
        elif kind == _STATE:
            found.states.append((cycle, value))
        elif kind == _BANKS:                # of the row command before
            last = found.dram[-1]
            found.dram[-1] = DramEvent(last.cycle, last.command, last.bank, value, last.place)
        else:
            found.dram.append(DramEvent(cycle, DramCommand(detail & 15), detail >> 4, 0, value))
    return found
