"""A mesh of any protection with plain ports, and random tiles of either dataflow on it as a target of fault injection."""

from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.emit import to_rtlil
from flows.fault.engines.engine import Engine
from flows.fault.records import FAULT, Kind
from flows.fault.targets.target import Target
from hw.array.mesh import mesh_control_layout
from hw.array.meshes import mesh_of
from hw.pe import PESpec
from sw.golden.pe import PE_MODELS
from tb.array.schedules import Slot, os_schedule, ws_schedule

__all__ = ["MeshBench", "by_group", "exhaustive", "mesh_target"]

PSUM_WIDTH = 20


class MeshBench(wiring.Component):
    """A mesh, and a pipeline that says which rows of psums are results.

    Parameters
    ----------
    mechanism : str
        As in `hw.array.meshes.mesh_of`.
    spec : PESpec
    rows, columns : int

    Members
    -------
    activation, weight, control : In
        The slot, lane 0 in the lowest bits.
    result : In(1)
        The slot's psums are a result.
    valid : Out(1), psum_0, … : Out(signed)
        The slot that was there `latency` cycles ago.
    detected : Out(1)
    """

    def __init__(self, *, mechanism: str, spec: PESpec, rows: int, columns: int):
        self.mesh = mesh_of(mechanism, spec=spec, rows=rows, columns=columns)
        super().__init__({
            "activation": In(rows * spec.activation_width), "weight": In(columns * spec.weight_width),
            "control": In(mesh_control_layout(rows, spec.dataflows).size), "result": In(1), "valid": Out(1), "detected": Out(1),
            **{f"psum_{c}": Out(signed(spec.psum_width)) for c in range(columns)},
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.mesh = mesh = self.mesh
        valid = Signal(mesh.latency, name="valid_pipeline")
        m.submodules.follow = follow = Module()
        follow.d.sync += valid.eq(Cat(self.result, valid))
        m.d.comb += [
            mesh.activation.as_value().eq(self.activation),
            mesh.weight.as_value().eq(self.weight),
            mesh.control.as_value().eq(self.control),
            self.valid.eq(valid[-1]),
            *(getattr(self, f"psum_{c}").eq(mesh.psum[c]) for c in range(mesh.columns)),
        ]
        if hasattr(mesh, "detected"):
            m.d.comb += [mesh.valid.eq(valid[-1]), self.detected.eq(mesh.detected)]
        return m


def _slots(kind: str, rows: int, columns: int, width: int, length: int) -> list[Slot]:
    """Return three random tiles."""
    rng, half = np.random.default_rng(rows), 1 << width - 1
    model, latency = PE_MODELS["mac"](psum_width=PSUM_WIDTH), rows + columns - 1
    if kind == "ws":
        return ws_schedule([rng.integers(-128, 128, (length, rows)) for _ in range(3)],
                           [rng.integers(-half, half, (rows, columns)) for _ in range(3)], model=model, latency=latency)
    return os_schedule([rng.integers(-128, 128, (rows, length)) for _ in range(3)],
                       [rng.integers(-half, half, (length, columns)) for _ in range(3)], model=model, latency=latency)


def _words(values: list[int], bits: int) -> npt.NDArray[np.uint32]:
    chunks = -(-bits // 32)
    return np.array([[value >> 32 * chunk & 0xFFFF_FFFF for chunk in range(chunks)] for value in values], np.uint32)


def _lanes(lanes: Any, width: int) -> int:
    return 0 if lanes is None else sum(int(lane) % (1 << width) << width * index for index, lane in enumerate(lanes))


def mesh_target(mechanism: str, rows: int, columns: int, *, dataflows: tuple[str, ...] = ("ws", "os"), kind: str = "ws",
                weight_width: int = 8, length: int = 6, tail: int = 12) -> Target:
    """Return a mesh with three random tiles of dataflow `kind`.

    The run begins with as many empty slots as the checks of control are silent after reset, and lasts `tail` cycles longer than
    its results, so that a flag is seen. The pipeline of the bench is no site.
    """
    spec = PESpec(kind="mac", activation_width=8, weight_width=weight_width, psum_width=PSUM_WIDTH, dataflows=dataflows)
    bench = MeshBench(mechanism=mechanism, spec=spec, rows=rows, columns=columns)
    slots = _slots(kind, rows, columns, weight_width, length)
    slots = [Slot()] * (bench.mesh.latency + 4) + slots + [Slot()] * (bench.mesh.latency + tail)
    layout = mesh_control_layout(rows, dataflows)
    stimuli = {
        "activation": _words([_lanes(slot.activation, 8) for slot in slots], 8 * rows),
        "weight": _words([_lanes(slot.weight, weight_width) for slot in slots], weight_width * columns),
        "control": _words([layout.const(slot.control).as_value().value for slot in slots], layout.size),
        "result": np.array([slot.result is not None for slot in slots], np.uint32),
    }
    psums = tuple(f"psum_{c}" for c in range(columns))
    return Target(name=f"{mechanism} {rows}x{columns}", rtlil=to_rtlil(bench, "mesh_bench"), top="mesh_bench", stimuli=stimuli,
                  cycles=len(slots), observed=("valid", *psums), valid=dict.fromkeys(psums, "valid"),
                  detected=None if mechanism == "none" else "detected", environment=("follow",))


def exhaustive(engine: Engine, sites: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.void]:
    """Return a single upset of every bit of `sites`, by default of all flip-flops, in every cycle."""
    chosen = engine.sites.of_kind("ff") if sites is None else sites
    bits = [(site, 1 << bit) for site in chosen for bit in range(int(engine.sites.table["width"][site]))]
    faults = np.zeros(len(bits) * engine.golden_cycles, FAULT)
    faults["site"] = np.repeat([site for site, _ in bits], engine.golden_cycles)
    faults["mask"] = np.repeat([mask for _, mask in bits], engine.golden_cycles)
    faults["cycle"] = np.tile(np.arange(engine.golden_cycles), len(bits))
    faults["kind"] = Kind.SEU
    return faults


def by_group(engine: Engine, faults: npt.NDArray[np.void], outcomes: npt.NDArray[np.void]) -> dict[str, dict[int, int]]:
    """Return register name, without numbers → outcome → count."""
    groups: dict[str, dict[int, int]] = {}
    names = [engine.sites.path(site).split(".")[-1].rstrip("0123456789_") for site in range(len(engine.sites))]
    for site in np.unique(faults["site"]):
        counted = groups.setdefault(names[site], {})
        for outcome, count in zip(*np.unique(outcomes["outcome"][faults["site"] == site], return_counts=True), strict=True):
            counted[int(outcome)] = counted.get(int(outcome), 0) + int(count)
    return groups
