"""The lanes engine: faults in vectors of machines beside one run without faults, on the words of the netlist."""

import ctypes
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.lanes_build import build_lanes
from flows.fault.lanes_tables import LanesTables, Tables
from flows.fault.lowering import design_of
from flows.fault.records import FAULT, OUTCOME, Kind
from flows.fault.segments import segment
from flows.fault.sites import KINDS, Sites, sites_of
from flows.fault.target import Target, TargetError

__all__ = ["ACCESS", "CORRUPTION", "FaultError", "LanesEngine"]

ACCESS = np.dtype([("address", "<u4"), ("cycle", "<u4"), ("kind", "<u4")])
"""An access to a memory in the run without faults; `kind`: 0 read, 1 all of the word written, 2 some of it."""
CORRUPTION = np.dtype([("word", "<u4"), ("golden", "<u4"), ("got", "<u4")])
"""A wrong 32-bit chunk of an observed memory, `word` counted from the memory's first."""
_FOUND = np.dtype([("fault", "<u4"), ("memory", "<u4"), ("word", "<u4"), ("golden", "<u4"), ("got", "<u4")])

_STOP_AT_FIRST_SDC, _COLLECT = 1, 2
_STATE = (Kind.SEU, Kind.MBU, Kind.STUCK0, Kind.STUCK1, Kind.INTERMITTENT)
_ALLOWED = {"ff": _STATE, "memory": _STATE, "gate": (Kind.SET, Kind.STUCK0, Kind.STUCK1), "bus": (Kind.BUS, Kind.STUCK0,
                                                                                                  Kind.STUCK1)}


class FaultError(ValueError):
    """A fault that cannot be injected; the text says which and why."""


def _load(path: Any) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, u32 = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("create", pointer, [ctypes.POINTER(Tables)]), ("destroy", None, [pointer]), ("cycles", u32, [pointer]),
        ("deadline", u32, [pointer]), ("flagged", u32, [pointer]), ("lanes", u32, []),
        ("run", None, [pointer, pointer, ctypes.c_size_t, pointer, u32]),
        ("corruptions", ctypes.c_size_t, [pointer, ctypes.POINTER(pointer)]),
        ("accesses", None, [pointer, u32, ctypes.POINTER(pointer), ctypes.POINTER(pointer)]),
    ):
        function = getattr(library, f"fi_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class LanesEngine:
    """Faults by the vector. One engine is one thread's; processes have one each.

    Making one flattens the design, compiles its logic (from the cache the second time) and runs it once without faults.

    Parameters
    ----------
    target : Target
    gates : bool
        Outputs of logic cells are sites too.

    Attributes
    ----------
    sites : Sites
    golden_cycles : int
        Length of the run without faults.
    deadline : int
        Cycles after which a run hangs.

    Raises
    ------
    TargetError
        If the run without faults does not end, or raises a flag; or the target names what is not there.
    NetlistError
        If the design cannot be simulated.
    """

    name = "lanes"

    def __init__(self, target: Target, *, gates: bool = False):
        self.target = target
        self.sites: Sites = sites_of(target, gates=gates)
        design = design_of(target.rtlil, target.top)
        pieces = segment(design)
        self._tables = LanesTables(target, design, pieces, self.sites)
        self._library = _load(build_lanes(pieces, gates=gates))
        self._handle = self._library.fi_create(ctypes.byref(self._tables.tables))
        self._closed = weakref.finalize(self, self._library.fi_destroy, self._handle)
        self.golden_cycles = int(self._library.fi_cycles(self._handle))
        self.deadline = int(self._library.fi_deadline(self._handle))
        if not self.golden_cycles:
            raise TargetError(f"the run without faults must raise {target.done!r} within {target.limit} cycles, and does not")
        if self._library.fi_flagged(self._handle):
            raise TargetError(f"the run of {target.name!r} without faults must not raise {target.detected!r}, "
                              f"{target.corrected!r} or {target.violation!r}")

    @property
    def lanes(self) -> int:
        """Machines in a vector on this processor."""
        return int(self._library.fi_lanes())

    def _checked(self, faults: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        faults = np.ascontiguousarray(faults, dtype=FAULT)
        if not len(faults):
            return faults
        for bad, rule in (
            (faults["site"] >= len(self.sites), lambda row: f"have a site below {len(self.sites)}, not {row['site']}"),
            (faults["cycle"] >= self.golden_cycles,
             lambda row: f"begin before cycle {self.golden_cycles}, not in {row['cycle']}"),
        ):
            if bad.any():
                index = int(np.flatnonzero(bad)[0])
                raise FaultError(f"fault {index} must {rule(faults[index])}")
        table = self.sites.table[faults["site"]]
        outside = faults["mask"].astype(np.uint64) >> table["width"].astype(np.uint64) > 0
        if outside.any():
            index = int(np.flatnonzero(outside)[0])
            raise FaultError(f"fault {index} must strike bits of the {table['width'][index]} that its site has, not mask "
                             f"0x{int(faults['mask'][index]):x}")
        fits = np.zeros(len(faults), bool)
        for kind, allowed in _ALLOWED.items():
            fits |= (table["kind"] == KINDS.index(kind)) & np.isin(faults["kind"], [int(one) for one in allowed])
        if not fits.all():
            index = int(np.flatnonzero(~fits)[0])
            place = KINDS[table["kind"][index]]
            names = ", ".join(kind.name for kind in _ALLOWED[place])
            raise FaultError(f"fault {index} must be of a kind that a site of kind {place} can have, {names}, not "
                             f"{int(faults['kind'][index])}")
        return faults

    def _run(self, faults: npt.NDArray[np.void], flags: int) -> npt.NDArray[np.void]:
        outcomes = np.zeros(len(faults), OUTCOME)
        self._library.fi_run(self._handle, faults.ctypes.data, len(faults), outcomes.ctypes.data, flags)
        return outcomes

    def run(self, faults: npt.NDArray[np.void], *, stop_at_first_sdc: bool = False) -> npt.NDArray[np.void]:
        """Return what becomes of each fault.

        Parameters
        ----------
        faults : ndarray of FAULT
            In any order; near ones are simulated together.
        stop_at_first_sdc : bool
            A fault is dropped as soon as an observed port is wrong without a flag: its outcome is SDC, even if a flag would have
            come later, and what is said of its size is what was seen by then.

        Returns
        -------
        ndarray of OUTCOME

        Raises
        ------
        FaultError
            If a site, a mask, a cycle or a kind does not fit.
        """
        return self._run(self._checked(faults), _STOP_AT_FIRST_SDC if stop_at_first_sdc else 0)

    def corruptions(self, faults: npt.NDArray[np.void]) -> list[dict[str, npt.NDArray[np.void]]]:
        """Return for each fault the words of the observed memories that are wrong at its end: memory path → CORRUPTION rows."""
        faults = self._checked(faults)
        self._run(faults, _COLLECT)
        pointer = ctypes.c_void_p()
        count = int(self._library.fi_corruptions(self._handle, ctypes.byref(pointer)))
        rows = np.zeros(0, _FOUND)
        if count:
            rows = np.frombuffer(ctypes.string_at(pointer, count * _FOUND.itemsize), _FOUND).copy()
        rows = rows[np.lexsort((rows["word"], rows["memory"], rows["fault"]))]
        found: list[dict[str, npt.NDArray[np.void]]] = [{} for _ in faults]
        starts = np.flatnonzero(np.diff(rows["fault"].astype(np.int64) << 32 | rows["memory"], prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=False):
            part = np.zeros(end - start, CORRUPTION)
            for name in CORRUPTION.names or ():
                part[name] = rows[name][start:end]
            path = self._tables.design.memories[rows["memory"][start]].path
            found[rows["fault"][start]][path] = part
        return found

    def access_trace(self) -> dict[str, npt.NDArray[np.void]]:
        """Return when the run without faults reads and writes its memories: path → ACCESS rows, by address, then by cycle.

        Within a cycle reads come before writes. A read whose data is not taken (a synchronous port that is not enabled) is none.
        """
        found = {}
        for index, memory in enumerate(self._tables.design.memories):
            start, items = ctypes.c_void_p(), ctypes.c_void_p()
            self._library.fi_accesses(self._handle, index, ctypes.byref(start), ctypes.byref(items))
            starts = np.frombuffer(ctypes.string_at(start, 4 * (memory.depth + 1)), np.uint32).astype(np.int64)
            first, last = int(starts[0]), int(starts[-1])
            rows = np.zeros(last - first, ACCESS)
            if last > first:
                assert items.value is not None
                packed = np.frombuffer(ctypes.string_at(items.value + 4 * first, 4 * (last - first)), np.uint32)
                rows["address"] = np.repeat(np.arange(memory.depth), np.diff(starts))
                rows["cycle"], rows["kind"] = packed >> 2, packed & 3
            found[memory.path] = rows
        return found
