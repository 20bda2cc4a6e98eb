"""The lanes engine: faults in vectors of machines beside one run without faults, on the words of the netlist."""

import ctypes
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.engines.engine import check_faults, check_golden
from flows.fault.engines.lanes.build import build_lanes
from flows.fault.engines.lanes.segments import segment
from flows.fault.engines.lanes.tables import LanesTables, Tables
from flows.fault.engines.places import check_names
from flows.fault.netlist.lowering import design_of
from flows.fault.netlist.sites import KINDS, Sites, sites_of
from flows.fault.records import FAULT, OUTCOME
from flows.fault.targets.target import Target

__all__ = ["ACCESS", "CORRUPTION", "LanesEngine"]

ACCESS = np.dtype([("address", "<u4"), ("cycle", "<u4"), ("kind", "<u4")])
"""An access to a memory in the run without faults; `kind`: 0 read, 1 all of the word written, 2 some of it."""
CORRUPTION = np.dtype([("word", "<u4"), ("golden", "<u4"), ("got", "<u4")])
"""A wrong 32-bit chunk of an observed memory, `word` counted from the memory's first."""
_FOUND = np.dtype([("fault", "<u4"), ("memory", "<u4"), ("word", "<u4"), ("golden", "<u4"), ("got", "<u4")])

_STOP_AT_FIRST_SDC, _COLLECT = 1, 2


def _load(path: Any) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, u32 = ctypes.c_void_p, ctypes.c_uint32
    for name, result, arguments in (
        ("create", pointer, [ctypes.POINTER(Tables)]), ("destroy", None, [pointer]), ("cycles", u32, [pointer]),
        ("deadline", u32, [pointer]), ("flagged", u32, [pointer]), ("violated", u32, [pointer]), ("lanes", u32, []),
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
    sites : Sites or None
        Of the target; by default `sites_of(target, gates=gates)`.
    gates : bool
        Outputs of logic cells are sites too, if no sites are given.
    machine : str
        Instruction set to compile for, as in the compiler's `-march`.

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
        If the target's run without faults fails, or it names a port or a memory that there is not.
    NetlistError
        If the design cannot be simulated.
    """

    name = "lanes"

    def __init__(self, target: Target, sites: Sites | None = None, *, gates: bool = False, machine: str = "native"):
        self.target = target
        self.sites = sites if sites is not None else sites_of(target, gates=gates)
        gates = bool((self.sites.table["kind"] == KINDS.index("gate")).any())
        check_names(target)
        design = design_of(target.rtlil, target.top)
        pieces = segment(design)
        self._tables = LanesTables(target, design, pieces, self.sites)
        self._library = _load(build_lanes(pieces, gates=gates, machine=machine))
        self._handle = self._library.fi_create(ctypes.byref(self._tables.tables))
        self._closed = weakref.finalize(self, self._library.fi_destroy, self._handle)
        self.golden_cycles = int(self._library.fi_cycles(self._handle))
        self.deadline = int(self._library.fi_deadline(self._handle))
        check_golden(target, ended=self.golden_cycles > 0, cycles=self.golden_cycles or target.limit,
                     flagged=bool(self._library.fi_flagged(self._handle)), violated=bool(self._library.fi_violated(self._handle)))

    @property
    def lanes(self) -> int:
        """Machines in a vector on this processor."""
        return int(self._library.fi_lanes())

    def _checked(self, faults: npt.NDArray[Any]) -> npt.NDArray[np.void]:
        check_faults(faults, self.sites, self.golden_cycles)
        return np.ascontiguousarray(faults, FAULT)

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
            If a fault cannot be injected.
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

        Only while the run lasts. Within a cycle reads come before writes. A read whose data is not taken (a synchronous port that
        is not enabled) is none.
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
            found[memory.path] = rows[rows["cycle"] < self.golden_cycles]       # it is clocked on, for runs that are longer
        return found
