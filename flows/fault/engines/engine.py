"""What every engine is, and what it refuses."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flows.fault.netlist.sites import KINDS, Sites
from flows.fault.records import FAULT, Kind
from flows.fault.targets.target import Target, TargetError

__all__ = ["PLACES", "Engine", "FaultError", "check_faults", "check_golden"]

PLACES = {
    Kind.SEU: ("ff", "memory"), Kind.MBU: ("ff", "memory"), Kind.INTERMITTENT: ("ff", "memory"), Kind.SET: ("gate",),
    Kind.STUCK0: ("ff", "memory", "gate"), Kind.STUCK1: ("ff", "memory", "gate"), Kind.BUS: ("bus",),
}
"""What a kind of fault can hit."""
_LASTING = (Kind.SET, Kind.INTERMITTENT, Kind.BUS)


class FaultError(ValueError):
    """A fault that cannot be injected; the text says which and why."""


class Engine(Protocol):
    """Runs faults on a target, each alone, and says what became of them; engines differ in speed only.

    Attributes
    ----------
    name : str
    target : Target
    sites : Sites
    golden_cycles : int
        Length of the run without faults.
    """

    name: str
    target: Target
    sites: Sites
    golden_cycles: int

    def run(self, faults: npt.NDArray[np.void], *, stop_at_first_sdc: bool = False) -> npt.NDArray[np.void]:
        """Return an OUTCOME row for each FAULT row.

        Parameters
        ----------
        faults : ndarray of FAULT
        stop_at_first_sdc : bool
            End a run at the first wrong word: faster, but `outcome` may say SDC where a flag would have come later, and what
            counts wrong words counts those seen.
        """
        ...


def check_faults(faults: npt.NDArray[Any], sites: Sites, cycles: int | None = None) -> None:
    """Check that every fault can be injected into a run of `cycles`, if that is known.

    Raises
    ------
    FaultError
        If one cannot.
    """
    if faults.dtype != FAULT:
        raise FaultError(f"faults must be an array of FAULT rows, not of {faults.dtype}")
    if not len(faults):
        return

    def refuse(bad: npt.NDArray[np.bool_], name: str, rule: str) -> None:
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            raise FaultError(f"{name} of fault {index} must be {rule}, not {int(faults[name][index])}")

    refuse(faults["site"] >= len(sites), "site", f"below {len(sites)}")
    refuse(faults["kind"] >= len(Kind), "kind", f"below {len(Kind)}")
    if cycles is not None:
        refuse(faults["cycle"] >= cycles, "cycle", f"below {cycles}, the run's length")
    widths = sites.table["width"][faults["site"]].astype(np.uint64)
    refuse(faults["mask"].astype(np.uint64) >> widths != 0, "mask", "within the bits of its site")
    places = sites.table["kind"][faults["site"]]
    for kind, legal in PLACES.items():
        chosen = faults["kind"] == kind
        refuse(chosen & ~np.isin(places, [KINDS.index(place) for place in legal]), "site",
               f"a {' or '.join(legal)} for kind {kind.name}")
        if kind in _LASTING:
            refuse(chosen & (faults["duration"] == 0), "duration", f"at least 1 cycle for kind {kind.name}")


def check_golden(target: Target, *, ended: bool, cycles: int, flagged: bool, violated: bool) -> None:
    """Check that the run without faults went well.

    Raises
    ------
    TargetError
        If not: nothing can be compared with it.
    """
    for failed, why in ((not ended, f"{target.done!r} does not rise within {target.limit} cycles"),
                        (violated, "it breaks a rule of a bus"), (flagged, "it flags an error")):
        if failed:
            raise TargetError(f"workload {target.name!r} fails without faults, after {cycles} cycles: {why}")
