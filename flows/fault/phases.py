"""In which phase of its work a run is, cycle by cycle."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.fault.engine import Engine
from flows.fault.target import Target

__all__ = ["Phases", "phases_of"]


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
    Others have quarters of their time.
    """
    cycles = engine.golden_cycles
    if {"load", "streams"} <= set(target.stimuli):
        load, streams = (target.words(port, cycles)[:, 0] != 0 for port in ("load", "streams"))
        return _present(np.select([load, streams], [0, 1], 2), ("load", "compute", "drain"))
    return _present(np.arange(cycles) * 4 // cycles, ("first quarter", "second quarter", "third quarter", "last quarter"))


def _present(labels: npt.NDArray[np.int64], names: tuple[str, ...]) -> Phases:
    """Return the phases that there are."""
    there, renumbered = np.unique(labels, return_inverse=True)
    return Phases(renumbered.astype(np.int64), tuple(names[label] for label in there))
