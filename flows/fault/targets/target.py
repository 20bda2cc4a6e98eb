"""What faults are injected into: a closed design, its inputs by cycle, and what tells a right run from a wrong one."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Target", "TargetError"]


class TargetError(ValueError):
    """A target that cannot be injected into; the text says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A design with one run of it. Instance paths have dots and begin below the top: `dut.engine.mesh.row_3.pe_5.psum_held`.

    A run begins in cycle 0 with every register at its initial value and `rst` low. What is observed in cycle t is what the
    ports show at its end, after the logic has settled and before the clock edge that begins cycle t + 1.

    Attributes
    ----------
    name : str
        For reports.
    rtlil : str
        Hierarchical RTLIL, `flows.emit.to_rtlil(component, top)`.
    top : str
        Name of its top module. `clk` and `rst` belong to the engine.
    stimuli : dict, port → ndarray of shape (cycles,) or (cycles, 32-bit words), lowest word first
        Inputs by cycle; the last row stays for runs that are longer. Inputs that are not named are 0.
    contents : dict, memory path → ndarray, uint32, shape (depth, 32-bit words)
        What memories hold in cycle 0; loaded when a run begins, so that the netlist is the same for every workload.
    cycles : int
        Length of the run where `done` is None; else 0: the engine measures it in a run without faults.
    limit : int
        Cycles within which the run without faults must raise `done`, and the most that any run has.
    watchdog : int
        Added to twice the length of the run without faults, the time after which a run hangs.
    done : str or None
        Output that ends a run in the first cycle in which it is high.
    observed : tuple of str
        Outputs compared with the run without faults in each cycle that both runs have, in 32-bit words, the last one narrower.
    valid : dict, observed output → output
        The observed one is compared only in cycles in which this one is high in the run without faults.
    observed_memory : dict, memory path → list of (first, last + 1)
        Words compared with the run without faults in the run's last cycle.
    detected, corrected, violation : str or None
        Outputs that are high, in any cycle, when an error was flagged, an error was corrected, a rule of a bus was broken.
    environment : tuple of str
        Globs of instance paths that are no fault sites, nor is what is below them: DRAM, host, monitors; "" for what the top
        module itself has between its instances.
    taps : dict, bus name → input port
        Inputs that are XORed into a bus, for faults of kind `BUS`.
    """

    name: str
    rtlil: str
    top: str
    stimuli: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    contents: dict[str, npt.NDArray[np.uint32]] = field(default_factory=dict)
    cycles: int = 0
    limit: int = 0
    watchdog: int = 0
    done: str | None = None
    observed: tuple[str, ...] = ()
    valid: dict[str, str] = field(default_factory=dict)
    observed_memory: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    detected: str | None = None
    corrected: str | None = None
    violation: str | None = None
    environment: tuple[str, ...] = ()
    taps: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without the netlist."""
        if self.done is None and self.cycles < 1:
            raise TargetError(f"Target.cycles must be at least 1 where no port ends the run, not {self.cycles!r}")
        if self.done is not None and self.limit < 1:
            raise TargetError(f"Target.limit must be at least 1 where a port ends the run, not {self.limit!r}")
        if not self.observed and not self.observed_memory:
            raise TargetError("Target.observed must name a port, or Target.observed_memory a memory: else every fault is masked")
        for port, rows in self.stimuli.items():
            if rows.ndim not in (1, 2) or not len(rows):
                raise TargetError(f"Target.stimuli[{port!r}] must have a row for each cycle, not shape {rows.shape!r}")
        for port in self.valid:
            if port not in self.observed:
                raise TargetError(f"Target.valid must qualify observed ports, not {port!r}")
        for memory, ranges in self.observed_memory.items():
            for first, end in ranges:
                if not 0 <= first < end:
                    raise TargetError(
                        f"Target.observed_memory[{memory!r}] must be ranges (first, last + 1), not {(first, end)!r}")

    def check_ports(self, inputs: Iterable[str], outputs: Iterable[str], memories: Mapping[str, tuple[int, int]]) -> None:
        """Check every name against the netlist's ports and memories (path → depth, 32-bit words).

        Raises
        ------
        TargetError
            If there is no such port or memory, or a memory's contents or ranges do not fit it.
        """
        single = {name: (given,) for name in ("done", "detected", "corrected", "violation") if (given := getattr(self, name))}
        for what, names, known in (
                ("stimuli", self.stimuli, inputs), ("taps", self.taps.values(), inputs), ("observed", self.observed, outputs),
                ("valid", self.valid.values(), outputs), *((name, given, outputs) for name, given in single.items()),
                ("contents", self.contents, memories), ("observed_memory", self.observed_memory, memories)):
            for name in names:
                if name not in known:
                    kind = "a memory" if known is memories else "an input" if known is inputs else "an output"
                    raise TargetError(f"Target.{what} must name {kind} of {self.top!r}, not {name!r}")
        for path, words in self.contents.items():
            if words.shape != memories[path]:
                raise TargetError(f"Target.contents[{path!r}] must be of shape {memories[path]}, not {words.shape}")
        for path, ranges in self.observed_memory.items():
            for _, end in ranges:
                if end > memories[path][0]:
                    raise TargetError(f"Target.observed_memory[{path!r}] must end within {memories[path][0]} words, not at {end}")

    def deadline(self, golden_cycles: int) -> int:
        """Return the cycles after which a run has ended or hangs, where the run without faults takes `golden_cycles`."""
        return self.cycles if self.done is None else min(self.limit, 2 * golden_cycles + self.watchdog)

    def words(self, port: str, cycles: int) -> npt.NDArray[np.uint32]:
        """Return what input `port` is driven with, shape (cycles, words); zeros where it is not named."""
        rows = self.stimuli.get(port)
        if rows is None:
            return np.zeros((cycles, 1), np.uint32)
        words = np.asarray(rows).astype(np.uint32).reshape(len(rows), -1)
        return words[np.minimum(np.arange(cycles), len(words) - 1)]

    def digest(self) -> str:
        """Return 64 hexadecimal digits that differ where anything in the target does."""
        hashed = hashlib.sha256()

        def add(value: Any) -> None:
            text = value if isinstance(value, bytes) else repr(value).encode()
            hashed.update(len(text).to_bytes(8, "little") + text)

        for name in ("name", "rtlil", "top", "cycles", "limit", "watchdog", "done", "observed", "detected", "corrected",
                     "violation", "environment"):
            add(getattr(self, name))
        for name in ("valid", "observed_memory", "taps"):
            add(sorted(getattr(self, name).items()))
        for name in ("stimuli", "contents"):
            for key, rows in sorted(getattr(self, name).items()):
                add((name, key, rows.shape))
                add(np.ascontiguousarray(rows).astype("<u4").tobytes())
        return hashed.hexdigest()
