"""Runs a workload's GEMMs on a device, compares every output byte with the golden device, and counts."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.cache import cache_root
from flows.native_sim import BusError
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from sw.device import DeviceError, Result
from sw.golden.device import GoldenDevice
from sw.kernels.case import GemmCase
from sw.perf import MemoryModel, predict
from sw.program import Program
from sw.replay import ReplayCase, save_case
from sw.runtime import compile_case, gemm_args, place_operands, read_output
from sw.workloads import Workload

__all__ = ["GemmMeasurement", "Measurement", "measure", "save_replay"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmMeasurement:
    """One GEMM of a run.

    Attributes
    ----------
    name : str
    m, n, k, batch : int
    macs : int
        Useful multiply-accumulates.
    cycles : int
        Doorbell to stop; 0 on the golden device, which has no time.
    predicted_cycles : int
        By `sw.perf`.
    match : bool or None
        Memory equal to the golden device's, byte by byte; None on the golden device itself.
    seconds : float
        Of simulation.
    counters : dict of str to int
    replay : str or None
        Where the case was saved, if it does not match.
    """

    name: str
    m: int
    n: int
    k: int
    batch: int
    macs: int
    cycles: int
    predicted_cycles: int
    match: bool | None
    seconds: float
    counters: dict[str, int]
    replay: str | None = None


@dataclass(kw_only=True)
class Measurement:
    """All GEMMs of a workload on one config."""

    config: AcceleratorConfig
    gemms: list[GemmMeasurement] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)
    build_seconds: float = 0.0

    @property
    def match(self) -> bool | None:
        """True if every GEMM matches; None on the golden device."""
        verdicts = [gemm.match for gemm in self.gemms]
        return None if None in verdicts or not verdicts else all(verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return the sums, and the GEMMs one by one, as plain JSON types."""
        timed = any(gemm.cycles for gemm in self.gemms)     # the golden device knows neither cycles nor bus traffic
        total: Counter[str] = Counter()
        for gemm in self.gemms:
            total.update(gemm.counters)
        cycles, macs = (sum(getattr(gemm, name) for gemm in self.gemms) for name in ("cycles", "macs"))
        seconds, peak = sum(gemm.seconds for gemm in self.gemms), self.config.peak_macs_per_cycle
        return {
            "match": self.match, "cycles": cycles if timed else None, "macs": macs, "peak_macs_per_cycle": peak,
            "utilization": macs / cycles / peak if cycles else None,
            "predicted_cycles": sum(gemm.predicted_cycles for gemm in self.gemms),
            "bytes_read": total["bytes_read"] if timed else None, "bytes_written": total["bytes_written"],
            "sim_cycles_per_second": cycles / seconds if cycles else None,
            "build_seconds": self.build_seconds, "run_seconds": seconds, "counters": dict(total), **self.extra,
            "gemms": [{name: getattr(gemm, name) for name in GemmMeasurement.__slots__} for gemm in self.gemms],
        }


def measure(workload: Workload, config: AcceleratorConfig, device: RtlDevice | None, *, dataflow: str = "auto", seed: int = 0,
            text: str | None = None, memory: MemoryModel | None = None,
            started: Callable[[str, int], None] | None = None) -> Measurement:
    """Run `workload` on `device`, or on the golden device alone where it is None.

    Parameters
    ----------
    workload : Workload
    config : AcceleratorConfig
    device : RtlDevice or None
    dataflow : str
        "ws", "os" or "auto".
    seed : int
        Of random operands.
    text : str or None
        Input of a workload on real text.
    memory : MemoryModel or None
        What mapping and prediction take the memory for.
    started : function of (str, int), or None
        Called with name and predicted cycles when a GEMM starts to be simulated.
    """
    found = Measurement(config=config)
    if device is not None:
        _ = device.build        # made, or found in the cache
        found.build_seconds = device.build_seconds

    def gemm(case: GemmCase) -> npt.NDArray[np.int8]:
        program = compile_case(config, case, dataflow=dataflow, memory=memory)
        args = gemm_args(program, None if case.spec.per_channel else float(case.scale))
        predicted = predict(config, program, args, memory).cycles
        if started is not None:
            started(case.name, predicted)
        golden = _run(GoldenDevice(config).open(program.memory_bytes), program, case, args)
        result, match, seconds, replay = golden.result, None, 0.0, None
        if device is not None:
            to_replay = ReplayCase(config=config, program=program, args=args, memory=golden.before, note=case.name,
                                   timing=asdict(device.timing))
            session = device.open(program.memory_bytes)
            try:
                rtl = _run(session, program, case, args)
            except (DeviceError, BusError) as error:
                error.add_note(f"see: heddle replay {save_replay(to_replay)}")
                raise
            finally:
                session.close()
            result, seconds = rtl.result, rtl.seconds
            match = bool(np.array_equal(rtl.after, golden.after))
            if not match:
                replay = save_replay(to_replay)
        spec = case.spec
        found.gemms.append(GemmMeasurement(
            name=case.name, m=spec.m, n=spec.n, k=spec.k, batch=spec.batch, macs=spec.macs, cycles=result.cycles,
            predicted_cycles=predicted, match=match, seconds=seconds, counters=dict(result.counters), replay=replay))
        return read_output(program, result.outputs)

    found.extra = workload.run(config, gemm, seed=seed, text=text)
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    result: Result
    before: npt.NDArray[np.uint8]
    after: npt.NDArray[np.uint8]
    seconds: float


def _run(session: Any, program: Program, case: GemmCase, args: dict[str, int]) -> _Run:
    """Place a case's operands in a fresh session and run it."""
    place_operands(session, program, case.spec, a=case.a, b=case.b, bias=case.bias,
                   scale=case.scale if case.spec.per_channel else None)
    before, started = session.memory.copy(), time.perf_counter()
    result = session.run(program, args)
    return _Run(result, before, session.memory.copy(), time.perf_counter() - started)


def save_replay(case: ReplayCase) -> str:
    """Save a case that failed in the cache folder and return its path."""
    folder: Path = cache_root() / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.config.digest()}-{case.program.name.replace(' ', '-')}.replay"
    save_case(case, path)
    return str(path)
