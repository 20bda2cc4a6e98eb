"""The engine on Verilator: the flat netlist as Yosys writes it, snapshots in place of runs from reset, one fault at a time."""

import ctypes
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.engines.engine import check_faults, check_golden
from flows.fault.engines.places import check_names, contents_of, inputs_of, memory_numbers, padded, places_of, variables_of
from flows.fault.netlist.flat_verilog import FlatVerilog, flat_verilog
from flows.fault.netlist.sites import KINDS, Sites, sites_of
from flows.fault.records import FAULT, OUTCOME
from flows.fault.targets.target import Target
from flows.verilated import build_model

__all__ = ["VerilatorEngine"]

SNAPSHOT_BYTES = 256 << 20
_NATIVE = Path(__file__).parents[2] / "native"
_NONE = 0xFFFF_FFFF


class _Setup(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("sites", "observed", "ranges", "driven", "stimuli", "contents")),
        ("snapshot_bytes", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in (
            "site_count", "observed_count", "range_count", "driven_count", "rows", "stimulus_words",
            "done", "detected", "corrected", "violation", "cycles", "limit", "watchdog"))]


def _build(flat: FlatVerilog) -> Path:
    """Make the library of a model, or find it in the cache."""
    root = f"offsetof(Root, {flat.top}__DOT__"

    def rows(entries: Iterable[str]) -> str:
        return "".join(f"    {{{entry}}},\n" for entry in entries)

    header = (f"constexpr size_t MEMORIES = {len(flat.memories)};\n"
              f"constexpr Variable VARIABLES[] = {{  // memories first\n"
              f"{rows(f'{root}{name}), {width}, {depth}' for name, width, depth in variables_of(flat))}}};\n"
              f"constexpr Variable INPUTS[] = {{\n"
              f"{rows(f'offsetof(Root, {name}), {width}, 1' for name, width in inputs_of(flat)) or '    {0, 1, 1},'}}};\n"
              f"constexpr Variable OUTPUTS[] = {{\n"
              f"{rows(f'offsetof(Root, {name}), {width}, 1' for name, width in flat.outputs.items())}}};\n")
    control = "".join(f'public_flat_rw -module "{flat.top}" -var "site_{what}_*"\n' for what in ("ff", "memory", "read"))
    with tempfile.TemporaryDirectory() as folder:
        sites = Path(folder) / "sites.h"
        sites.write_text(header)
        library, _ = build_model(
            "fault", flat.top, flat.text, flat.top, waves=None, vpi=False, control=control,
            main=_NATIVE / "fault_verilator.cpp", companions=(_NATIVE / "fault.h", sites), defines=("-Wno-invalid-offsetof",),
            link=("-shared", "-Wl,-Bsymbolic"), output="libfault.so")
    return library


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, count = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
            ("create", pointer, [ctypes.POINTER(_Setup)]), ("destroy", None, [pointer]),
            ("run", None, [pointer, pointer, count, pointer, ctypes.c_uint32]),
            ("run_from_reset", None, [pointer, pointer, count, pointer]), ("golden", None, [pointer, pointer]),
            ("outputs", count, [pointer, ctypes.POINTER(pointer)]), ("memory", None, [pointer, ctypes.c_uint32, pointer]),
            ("simulated", ctypes.c_uint64, [pointer])):
        function = getattr(library, f"fi_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class VerilatorEngine:
    """Injects with Verilator; implements `flows.fault.engines.engine.Engine`.

    Faults are sorted by cycle, so that the run without faults is simulated once; a run ends when it is as without the fault
    again. Differs from other injectors on Verilator in that state is restored from memory and in where its sites come from.

    Parameters
    ----------
    target : Target
    sites : Sites or None
        Of the target; by default `sites_of(target)`. With gates among them, the model has saboteurs and is several times slower.

    Raises
    ------
    TargetError
        If the target's run without faults fails, or it names a port or a memory that there is not.
    ToolError
        If the model cannot be built.
    """

    name = "verilator"

    def __init__(self, target: Target, sites: Sites | None = None):
        self.target = target
        self.sites = sites if sites is not None else sites_of(target)
        check_names(target)
        gates = bool((self.sites.table["kind"] == KINDS.index("gate")).any())
        self._flat = flat_verilog(target.rtlil, target.top, gates=gates)
        self._library = _load(_build(self._flat))
        self._handle = self._create()
        facts = (ctypes.c_uint32 * 4)()
        self._library.fi_golden(self._handle, facts)
        ended, self.golden_cycles, flagged, violated = map(int, facts)
        check_golden(target, ended=bool(ended), cycles=self.golden_cycles, flagged=bool(flagged), violated=bool(violated))

    def _create(self) -> int:
        target, flat = self.target, self._flat
        inputs = [name for name, _ in inputs_of(flat)]
        outputs, memories = list(flat.outputs), list(flat.memories)
        cycles = max([1, *(len(rows) for rows in target.stimuli.values())])
        widths = {name: -(-flat.inputs[name] // 32) for name in target.stimuli}
        stimuli = [padded(target.words(name, cycles), width) for name, width in widths.items()]
        observed = [(outputs.index(port), outputs.index(target.valid[port]) if port in target.valid else _NONE)
                    for port in target.observed]
        numbers = memory_numbers(target)
        ranges = [(memories.index(path), first, end, numbers[path])
                  for path, pairs in target.observed_memory.items() for first, end in pairs]
        contents = [contents_of(target, flat, path) for path in memories]
        arrays = {
            "sites": places_of(self.sites, target, flat), "observed": np.array(observed, np.uint32).reshape(-1, 2),
            "ranges": np.array(ranges, np.uint32).reshape(-1, 4),
            "driven": np.array([inputs.index(name) for name in widths], np.uint32),
            "stimuli": np.ascontiguousarray(np.concatenate([np.zeros((cycles, 0), np.uint32), *stimuli], 1)),
            "contents": np.concatenate([np.zeros(0, np.uint32), *(words.reshape(-1) for words in contents)]),
        }
        port = {name: outputs.index(given) if (given := getattr(target, name)) is not None else _NONE
                for name in ("done", "detected", "corrected", "violation")}
        setup = _Setup(
            **{name: array.ctypes.data for name, array in arrays.items()}, **port, snapshot_bytes=SNAPSHOT_BYTES,
            site_count=len(self.sites), observed_count=len(observed), range_count=len(ranges), driven_count=len(widths),
            rows=cycles, stimulus_words=sum(widths.values()), cycles=target.cycles, limit=target.limit, watchdog=target.watchdog)
        handle: int = self._library.fi_create(setup)
        return handle

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.fi_destroy(self._handle)

    def run(self, faults: npt.NDArray[np.void], *, stop_at_first_sdc: bool = False) -> npt.NDArray[np.void]:
        """Return an OUTCOME row for each FAULT row; see `flows.fault.engines.engine.Engine.run`."""
        faults, outcomes = self._checked(faults)
        self._library.fi_run(self._handle, faults.ctypes.data, len(faults), outcomes.ctypes.data, int(stop_at_first_sdc))
        return outcomes

    def run_from_reset(self, faults: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """Return what `run` returns, but simulate every fault from the first cycle to the last; to measure `run` against."""
        faults, outcomes = self._checked(faults)
        self._library.fi_run_from_reset(self._handle, faults.ctypes.data, len(faults), outcomes.ctypes.data)
        return outcomes

    def _checked(self, faults: npt.NDArray[Any]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        check_faults(faults, self.sites, self.golden_cycles)
        return np.ascontiguousarray(faults, FAULT), np.zeros(len(faults), OUTCOME)

    def golden_outputs(self) -> dict[str, npt.NDArray[np.uint32]]:
        """Return observed port → its words in each cycle of the run without faults, shape (cycles, words)."""
        words = ctypes.c_void_p()
        size = self._library.fi_outputs(self._handle, ctypes.byref(words))
        if not size:
            return {}
        table = np.frombuffer(ctypes.string_at(words, 4 * size), np.uint32).reshape(self.golden_cycles, -1)
        counts = [-(-self._flat.outputs[port] // 32) for port in self.target.observed]
        parts = np.split(table, np.cumsum(counts)[:-1], axis=1)
        return dict(zip(self.target.observed, parts, strict=True))

    def golden_memory(self, path: str) -> npt.NDArray[np.uint32]:
        """Return a memory at the end of the run without faults, shape (depth, 32-bit words)."""
        memory = self._flat.memories[path]
        words = np.zeros((memory.depth, -(-memory.width // 32)), np.uint32)
        self._library.fi_memory(self._handle, list(self._flat.memories).index(path), words.ctypes.data)
        return words

    @property
    def simulated_cycles(self) -> int:
        """Cycles of faulty runs so far."""
        return int(self._library.fi_simulated(self._handle))

