"""In which phase of its work a run is, cycle by cycle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.engines.engine import Engine
from flows.fault.targets.target import Target

__all__ = ["Phases", "phases_of"]

_GAP = 16
"""Accesses at most so many cycles apart belong to one stretch of work."""
_READ = 0
_WORK: tuple[tuple[str, Callable[[str], bool], bool], ...] = (
    ("compute", lambda path: path.startswith("dut.accumulator."), False),
    ("store", lambda path: path.split(".")[0] == "dram", False),
    ("load", lambda path: path.startswith("dut.scratchpad."), False),
    ("fetch", lambda path: path.split(".")[0] == "dram", True),
)
"""Phase, memories that tell of it, and whether by reads, else by writes; of phases at the same time the first counts."""


@dataclass(frozen=True)
class Phases:
    """A label for each cycle of the run without faults.

    Attributes
    ----------
    labels : (cycles,) int
        Index into `names`.
    names : tuple of str
    """

    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


def phases_of(target: Target, engine: Engine) -> Phases:
    """Return the phases of a target's run.

    An array's are those of its control inputs: "load" while weights go in, "compute" while activations stream, "drain" after.
    An accelerator's are told by its memories: "compute" while accumulators are written, "store" while DRAM is, "load" while the
    scratchpad is, "fetch" while nothing but reads from DRAM happens, else "control"; where the engine has no trace of them, and
    for other targets, quarters of the time.
    """
    cycles = engine.golden_cycles
    if {"load", "streams"} <= set(target.stimuli):
        load, streams = (target.words(port, cycles)[:, 0] != 0 for port in ("load", "streams"))
        return _present(np.select([load, streams], [0, 1], 2), ("load", "compute", "drain"))
    trace: dict[str, npt.NDArray[Any]] = getattr(engine, "access_trace", dict)()
    busy = [_busy(trace, tells, reads, cycles) for _, tells, reads in _WORK]
    if any(cycle.any() for cycle in busy):
        return _present(np.select(busy, range(len(busy)), len(busy)), (*(name for name, _, _ in _WORK), "control"))
    return _present(np.arange(cycles) * 4 // cycles, ("first quarter", "second quarter", "third quarter", "last quarter"))


def _busy(trace: dict[str, npt.NDArray[Any]], tells: Callable[[str], bool], reads: bool, cycles: int) -> npt.NDArray[np.bool_]:
    """Return in which cycles some memories are read, or written, short breaks included."""
    at = np.unique(np.concatenate([np.zeros(0, np.int64), *(
        rows["cycle"][(rows["kind"] == _READ) == reads].astype(np.int64) for path, rows in trace.items() if tells(path))]))
    at = at[at < cycles]
    busy = np.zeros(cycles + 1, np.int64)
    if len(at):
        ends = np.append(np.flatnonzero(np.diff(at) > _GAP), len(at) - 1)
        starts = np.concatenate(([0], ends[:-1] + 1))
        np.add.at(busy, at[starts], 1)
        np.add.at(busy, at[ends] + 1, -1)
    return np.cumsum(busy)[:-1] > 0


def _present(labels: npt.NDArray[np.int64], names: tuple[str, ...]) -> Phases:
    """Return the phases that there are."""
    there, renumbered = np.unique(labels, return_inverse=True)
    return Phases(renumbered.astype(np.int64), tuple(names[label] for label in there))
