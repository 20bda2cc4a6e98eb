# amaranth: UnusedElaboratable=no
"""Meshes that check themselves: results and cycles of a plain mesh, and no alarm without a fault."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.checksum_mesh import ChecksumMesh
from hw.array.meshes import mesh_of
from hw.array.residue_mesh import ResidueMesh
from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from sw.golden.array.systolic import result_rows
from sw.golden.pe import PE_MODELS
from tb.array.engine import SMALL, EngineBench, memory_image, random_command
from tb.array.schedules import Slot, os_schedule, play, ws_schedule
from tb.sim import Bench, simulate

MECHANISMS = ("abft", "residue3", "residue15")
PSUM_WIDTH = 22


def make(mechanism: str, rows: int, columns: int, dataflows: tuple[str, ...], weight_width: int = 8) -> Any:
    spec = PESpec(kind="mac", activation_width=8, weight_width=weight_width, psum_width=PSUM_WIDTH, dataflows=dataflows)
    return mesh_of(mechanism, spec=spec, rows=rows, columns=columns)


def schedule(dut: Any, kind: str, seed: int = 1) -> list[Slot]:
    """Return three tiles on the mesh."""
    rng, half = np.random.default_rng(seed), 1 << dut.spec.weight_width - 1
    rows, columns, model = dut.rows, dut.columns, PE_MODELS["mac"](psum_width=PSUM_WIDTH)
    if kind == "ws":
        return ws_schedule([rng.integers(-128, 128, (5, rows)) for _ in range(3)],
                           [rng.integers(-half, half, (rows, columns)) for _ in range(3)], model=model, latency=dut.latency)
    return os_schedule([rng.integers(-128, 128, (rows, 7)) for _ in range(3)],
                       [rng.integers(-half, half, (7, columns)) for _ in range(3)], model=model, latency=dut.latency)


def results(dut: Any, slots: list[Slot], alarms: list[int]) -> Bench:
    """Return a testbench that says which rows are results, and appends to `alarms` the cycles with a flag."""

    async def bench(ctx: Any) -> None:
        for cycle in range(len(slots) + dut.latency + dut.check_latency + 2):
            due = cycle - dut.latency
            ctx.set(dut.valid, 0 <= due < len(slots) and slots[due].result is not None)
            if ctx.get(dut.detected):
                alarms.append(cycle)
            assert not ctx.get(dut.corrected)
            await ctx.tick()

    return bench


@pytest.mark.parametrize(("dataflows", "kind"), [(("ws",), "ws"), (("os",), "os"), (("ws", "os"), "ws"), (("ws", "os"), "os")])
@pytest.mark.parametrize(("rows", "columns", "weight_width"), [(3, 4, 8), (1, 1, 8), (4, 2, 4), (1, 9, 8)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_same_results_in_the_same_cycles(mechanism: str, rows: int, columns: int, weight_width: int, dataflows: tuple[str, ...],
                                         kind: str) -> None:
    dut = make(mechanism, rows, columns, dataflows, weight_width)
    assert isinstance(dut, ChecksumMesh if mechanism == "abft" else ResidueMesh)
    slots, seen, alarms = schedule(dut, kind), [], []
    simulate(dut, play(dut, slots, seen), results(dut, slots, alarms))
    assert len(seen) == (15 if kind == "ws" else 3 * rows)
    assert not alarms


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_result_raises_the_flag_in_time(mechanism: str) -> None:
    """A sum that wraps is wrong, as no sum of a configuration is: by 2^16, one modulo 3, 15 and 255."""
    spec = PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=16, dataflows=("ws",))
    dut: Any = mesh_of(mechanism, spec=spec, rows=2, columns=3)
    wrong_slot, alarms = 9, []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.valid, 1)
        ctx.set(dut.weight, [5, -128, 7])
        ctx.set(dut.control.load, 1)
        for cycle in range(40):
            ctx.set(dut.control.load_row, cycle % 2)
            ctx.set(dut.control.select, cycle >= 2)
            ctx.set(dut.activation, [-128, -128] if cycle == wrong_slot else [cycle, -cycle])
            ctx.set(dut.control.load, cycle < 2)
            if ctx.get(dut.detected):
                alarms.append(cycle)
            await ctx.tick()

    simulate(dut, bench)
    assert alarms == [wrong_slot + dut.latency + dut.check_latency]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("shape", [{}, {"rows": 3, "columns": 5, "vector_lanes": 5, "weight_format": "int4"}],
                         ids=["4x4", "3x5-w4"])
def test_engine(mechanism: str, shape: dict[str, Any]) -> None:
    """Random commands of both dataflows, stalled now and then: the golden rows, and no alarm."""
    config = AcceleratorConfig(**SMALL, **shape, protection=(("engine.mesh", mechanism),))
    rng, scratchpad = random.Random(5), memory_image(config, 5)
    commands = [random_command(config, rng) for _ in range(6)]
    dut = SystolicEngine(config)
    module = dut.elaborate(None)
    dut.elaborate = lambda platform: module              # type: ignore[method-assign]
    mesh, alarms = module.submodules.mesh, []

    async def watch(ctx: Any) -> None:
        async for _, _, detected in ctx.tick().sample(mesh.detected):
            if detected:
                alarms.append(detected)

    bench = EngineBench(dut, scratchpad, stall=0.2, seed=5)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record, watch])
    expected = [row for command in commands for row in result_rows(config, command, scratchpad)]
    assert [row[1:] for row in bench.rows] == [(row, accumulate, list(psums)) for row, accumulate, psums in expected]
    assert not alarms


def test_refusals() -> None:
    with pytest.raises(ConfigError,
                       match=r"^the protection of a mesh must be one of none, abft, residue3, residue15, not 'tmr'$"):
        make("tmr", 2, 2, ("ws",))
    spec = PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=PSUM_WIDTH, dataflows=("ws",))
    with pytest.raises(ConfigError, match=r"^ResidueMesh\.bits must be at least 2, not 1$"):
        ResidueMesh(spec=spec, rows=2, columns=2, bits=1)


def test_a_pe_that_rounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rounding(MacPE):
        def multiply(self, weight: Any) -> Any:
            return (self.activation * weight) & ~3

    monkeypatch.setitem(PE_TYPES, "rounding", Rounding)
    spec = PESpec(kind="rounding", activation_width=8, weight_width=8, psum_width=PSUM_WIDTH, dataflows=("ws",))
    with pytest.raises(ConfigError, match=r"^PESpec\.kind must be a PE that adds exact products, such as mac, where sums are "
                                          r"checked, not 'rounding'$"):
        mesh_of("abft", spec=spec, rows=2, columns=2)
