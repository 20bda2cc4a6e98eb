"""Faults a second of one core: lanes beside Verilator with snapshots, Verilator from reset, and cocotb, on the same workload.

Flips of flip-flops, uniform over bits and cycles, all outcomes in full; arrays on two tiles, then a whole accelerator on a GEMM.
Processor time, so that what else the machine does matters less. Every engine gets the first of the same faults, as many as its
speed allows, and must find the same.
"""

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.engines.cocotb_engine import CocotbEngine
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.records import FAULT, OUTCOME
from flows.fault.targets.target import Target
from flows.fault.targets.workloads import array_target, workload_target
from hw.presets import preset_named
from sw.workloads import gemm_workload

Run = Callable[[npt.NDArray[np.void]], npt.NDArray[np.void]]

ARRAY_COUNTS = {"lanes": 400_000, "lanes, to the first wrong word": 400_000, "Verilator, snapshots": 60_000,
                "Verilator, from reset": 4_000, "cocotb": 80}
ACCELERATOR_COUNTS = {"lanes": 20_000, "Verilator, snapshots": 500, "Verilator, from reset": 100}
CASES: tuple[tuple[str, Callable[[], Target], dict[str, int]], ...] = (
    ("array 8×8, 112 cycles", lambda: array_target(8, 8), ARRAY_COUNTS),
    ("array 16×16, 144 cycles", lambda: array_target(16, 16), ARRAY_COUNTS),
    ("systolic-16x16, GEMM 32×32×32",
     lambda: workload_target(preset_named("systolic-16x16"), gemm_workload(32, 32, 32)), ACCELERATOR_COUNTS),
)
"""Name, target, and how many faults each engine gets; engines that are not named are left out."""


def _flips(engine: LanesEngine, count: int) -> npt.NDArray[np.void]:
    """Return random flips of flip-flop bits."""
    rng = np.random.default_rng(0)
    sites = engine.sites.of_kind("ff")
    bits = engine.sites.bits[sites]
    chosen = rng.choice(len(sites), count, p=bits / bits.sum())
    faults = np.zeros(count, FAULT)
    faults["site"], faults["mask"] = sites[chosen], 1 << rng.integers(0, bits[chosen])
    faults["cycle"] = rng.integers(0, engine.golden_cycles, count)
    return faults


def _processor_time() -> float:
    """Return ours, and that of the processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _runs(target: Target, lanes: LanesEngine, names: Sequence[str]) -> dict[str, Run]:
    """Return engine → what runs faults on it."""
    runs: dict[str, Run] = {"lanes": lanes.run,
                            "lanes, to the first wrong word": lambda faults: lanes.run(faults, stop_at_first_sdc=True)}
    if any(name.startswith("Verilator") for name in names):
        verilator = VerilatorEngine(target, lanes.sites)
        runs |= {"Verilator, snapshots": verilator.run, "Verilator, from reset": verilator.run_from_reset}
    if "cocotb" in names:
        runs["cocotb"] = CocotbEngine(target, lanes.sites).run
    return {name: runs[name] for name in names}


def _seconds(run: Run, faults: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], float]:
    """Return the outcomes and the processor time that the faults cost beyond that of none at all."""
    started = _processor_time()
    run(faults[:0])
    middle = _processor_time()
    outcomes = run(faults)
    return outcomes, max(1e-9, (_processor_time() - middle) - (middle - started))


def rows(cases: Sequence[tuple[str, Callable[[], Target], dict[str, int]]] = CASES) -> list[dict[str, Any]]:
    """Return a row for each target and engine; ratios are to Verilator from reset, and to cocotb where it runs."""
    table = []
    for name, make, counts in cases:
        target = make()
        lanes = LanesEngine(target)
        faults = _flips(lanes, max(counts.values()))
        found, rates = {}, {}
        for engine, run in _runs(target, lanes, list(counts)).items():
            found[engine], seconds = _seconds(run, faults[:counts[engine]])
            rates[engine] = counts[engine] / seconds
        for engine, outcomes in found.items():
            compared = ["outcome"] if "first" in engine else [column for column in OUTCOME.names or () if column != "end"]
            for column in compared:
                assert np.array_equal(outcomes[column], found["lanes"][column][:len(outcomes)]), (name, engine, column)
        bits = int(lanes.sites.bits[lanes.sites.of_kind("ff")].sum())
        table += [{
            "target": name, "flip-flop bits": bits, "cycles": lanes.golden_cycles,
            "engine": engine, "faults": counts[engine], "faults/s": rate,
            **{f"× {other}": rate / rates[other] if other in rates else "" for other in ("Verilator, from reset", "cocotb")},
        } for engine, rate in rates.items()]
    return table
