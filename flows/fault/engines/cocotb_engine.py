"""The engine on cocotb: the same faults as deposits through the VPI, slow and plain, to check the others."""

import importlib.util
import pickle
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.fault.engines.engine import check_faults, check_golden
from flows.fault.engines.places import Role, check_names, contents_of, inputs_of, memory_numbers, places_of, variables_of
from flows.fault.netlist.flat_verilog import flat_verilog
from flows.fault.netlist.sites import KINDS, Sites, sites_of
from flows.fault.records import FAULT, Kind
from flows.fault.targets.target import Target
from flows.toolchain import missing_tool

__all__ = ["CocotbEngine"]


class CocotbEngine:
    """Injects through the VPI; implements `Engine` of `flows.fault.engines`. Every fault is a run from reset to the end.

    Needs cocotb. Each call of `run` is one process, which runs without faults first.

    Parameters
    ----------
    target : Target
    sites : Sites or None
        Of the target; by default `sites_of(target)`.

    Raises
    ------
    TargetError
        If the target names a port or a memory that there is not; from `run`, if its run without faults fails.
    ToolError
        If cocotb is missing, or the model cannot be built.
    """

    name = "cocotb"

    def __init__(self, target: Target, sites: Sites | None = None):
        if importlib.util.find_spec("cocotb") is None:
            raise missing_tool("cocotb", "the engine of that name injects with it", "pip install cocotb~=2.1.0")
        self.target = target
        self.sites = sites if sites is not None else sites_of(target)
        check_names(target)
        gates = bool((self.sites.table["kind"] == KINDS.index("gate")).any())
        self._flat = flat_verilog(target.rtlil, target.top, gates=gates)
        self._places = places_of(self.sites, target, self._flat)
        self._variables = [name for name, _, _ in variables_of(self._flat)]
        self._inputs = [name for name, _ in inputs_of(self._flat)]
        self._build = build_cocotb(self._flat.text, self._flat.top, label="fault", visible={
            self._flat.top: ["clk", "rst", *self._inputs, *self._flat.outputs, *self._variables]})

    @cached_property
    def golden_cycles(self) -> int:
        """Length of the run without faults."""
        return self._execute(np.zeros(0, FAULT))[0]

    def run(self, faults: npt.NDArray[np.void], *, stop_at_first_sdc: bool = False) -> npt.NDArray[np.void]:
        """Return an OUTCOME row for each FAULT row; `stop_at_first_sdc` changes nothing here."""
        check_faults(faults, self.sites)
        return self._execute(faults)[1]

    def _execute(self, faults: npt.NDArray[Any]) -> tuple[int, npt.NDArray[np.void]]:
        target, flat = self.target, self._flat
        memories = {path: contents_of(target, flat, path) for path in flat.memories}
        job = {
            "faults": [self._fault(fault) for fault in faults],
            "stimuli": {port: [_number(row) for row in target.words(port, len(rows))] for port, rows in target.stimuli.items()},
            "registers": self._initial(),
            "contents": {flat.memories[path].variable: [_number(word) for word in words] for path, words in memories.items()},
            "observed": {port: flat.outputs[port] for port in target.observed}, "valid": target.valid,
            "observed_memory": {path: (flat.memories[path].variable, ranges) for path, ranges in target.observed_memory.items()},
            "memory_numbers": memory_numbers(target),
            "memory_widths": {path: memory.width for path, memory in flat.memories.items()},
            **{name: getattr(target, name)
               for name in ("done", "detected", "corrected", "violation", "cycles", "limit", "watchdog")},
        }
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "job.pickle").write_bytes(pickle.dumps(job))
            run_cocotb(self._build, "flows.fault.engines.cocotb_bench", folder=folder, environment={"HEDDLE_FAULT_JOB": name})
            facts, outcomes = pickle.loads((folder / "result.pickle").read_bytes())
        check_golden(target, **facts)
        return facts["cycles"], outcomes

    def _initial(self) -> dict[str, int]:
        """Return register → what it holds in cycle 0."""
        reads = [read for memory in self._flat.memories.values() for read in memory.reads]
        return {**self._flat.initial, **dict.fromkeys(reads, 0)}

    def _fault(self, fault: Any) -> dict[str, Any]:
        place = self._places[int(fault["site"])]
        role, variable = Role(place["role"]), int(place["variable"])
        if role == Role.SABOTEUR:
            variable += {Kind.STUCK0: 1, Kind.STUCK1: 2}.get(Kind(fault["kind"]), 0)
        return {
            **{name: int(fault[name]) for name in ("mask", "cycle", "duration", "kind")}, "state": role == Role.STATE,
            "variable": self._variables[variable] if role == Role.STATE else self._inputs[variable],
            "is_memory": role == Role.STATE and variable < len(self._flat.memories),
            "index": int(place["index"]), "low": int(place["low"])}


def _number(words: npt.NDArray[np.uint32]) -> int:
    """Return 32-bit words, lowest first, as one number."""
    return int.from_bytes(words.astype("<u4").tobytes(), "little")
