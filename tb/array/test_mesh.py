"""The mesh: exact products in exactly the cycles of `hw.engines`, and any legal slots against the golden model."""

import dataclasses

import numpy as np
import pytest

from flows.emit import to_verilog
from hw.array.mesh import Mesh
from hw.engines.systolic import os_cycles, scale_sim_os_fold, scale_sim_ws_fold, ws_cycles
from hw.pe import PE_TYPES, PESpec
from hw.pe.base import pe_control_layout
from sw.golden.array.mesh import MeshModel
from sw.golden.pe import PE_MODELS
from tb.array.schedules import Slot, os_schedule, play, ws_schedule
from tb.pe.slots import random_control
from tb.sim import simulate

BOTH = ("ws", "os")
PSUM_WIDTH = 22


def make(rows: int, columns: int, dataflows: tuple[str, ...] = BOTH, kind: str = "mac", weight_width: int = 8) -> Mesh:
    spec = PESpec(kind=kind, activation_width=8, weight_width=weight_width, psum_width=PSUM_WIDTH, dataflows=dataflows)
    return Mesh(spec=spec, rows=rows, columns=columns)


def shapes(count: int, seed: int) -> list[tuple[int, int, int, int]]:
    """Return random (R, C, T, length of a tile), short and long tiles, with the corners first."""
    rng = np.random.default_rng(seed)
    corners = [(1, 1, 1, 1), (1, 4, 3, 2), (4, 1, 3, 2), (4, 4, 3, 4), (5, 3, 3, 1)]
    return corners + [tuple(int(x) for x in rng.integers(1, high)) for high in [(6, 7, 5, 13)] * (count - len(corners))]


def random_tiles(rng: np.random.Generator, count: int, *shape: int) -> list[np.ndarray]:
    return [rng.integers(-128, 128, shape) for _ in range(count)]


def last_cycle_ws(rows: int, columns: int, tiles: int, m: int, kind: str, serialize: bool = False) -> int:
    """Run T random weight-stationary tiles of M rows through a mesh; return the cycle in which the last row leaves it."""
    rng = np.random.default_rng(rows * 1000 + columns * 100 + tiles * 10 + m)
    dut = make(rows, columns, kind=kind)
    slots = ws_schedule(random_tiles(rng, tiles, m, rows), random_tiles(rng, tiles, rows, columns),
                        model=PE_MODELS[kind](psum_width=PSUM_WIDTH), latency=dut.latency, serialize=serialize)
    seen: list[int] = []
    simulate(dut, play(dut, slots, seen))
    assert len(seen) == tiles * m
    assert seen[0] == 2 * rows + columns - 1         # column 0 alone, before the deskew, is there C − 1 cycles earlier: 2R
    return seen[-1]


@pytest.mark.parametrize("kind", PE_TYPES)
@pytest.mark.parametrize("serialize", [False, True])
@pytest.mark.parametrize(("rows", "columns", "tiles", "m"), shapes(9, 1))
def test_ws_takes_the_cycles_of_the_formula(rows: int, columns: int, tiles: int, m: int, serialize: bool, kind: str) -> None:
    assert last_cycle_ws(rows, columns, tiles, m, kind, serialize) + 1 == ws_cycles(rows, columns, tiles, m, serialize)


@pytest.mark.parametrize("kind", PE_TYPES)
@pytest.mark.parametrize("serialize", [False, True])
@pytest.mark.parametrize(("rows", "columns", "tiles", "k"), shapes(9, 2))
def test_os_takes_the_cycles_of_the_formula(rows: int, columns: int, tiles: int, k: int, serialize: bool, kind: str) -> None:
    rng = np.random.default_rng(rows * 1000 + columns * 100 + tiles * 10 + k)
    dut = make(rows, columns, kind=kind)
    slots = os_schedule(random_tiles(rng, tiles, rows, k), random_tiles(rng, tiles, k, columns),
                        model=PE_MODELS[kind](psum_width=PSUM_WIDTH), latency=dut.latency, serialize=serialize)
    seen: list[int] = []
    simulate(dut, play(dut, slots, seen))
    assert len(seen) == tiles * rows
    assert seen[-1] + 1 == os_cycles(rows, columns, tiles, k, serialize)


@pytest.mark.parametrize("kind", PE_TYPES)
@pytest.mark.parametrize(("n", "tiles", "m", "last", "utilization"), [
    (4, 3, 4, 22, 0.522), (4, 5, 16, 90, 0.879), (8, 4, 32, 150, None), (8, 3, 2, 40, None), (16, 2, 64, 174, None)])
def test_square_mesh_meets_the_verified_timing(n: int, tiles: int, m: int, last: int, utilization: float | None,
                                               kind: str) -> None:
    """N×N: 3N + (T−1)·max(M,N) + M − 1 cycles; five points whose last cycle was verified elsewhere, simulated here."""
    assert last_cycle_ws(n, n, tiles, m, kind) == last
    cycles = ws_cycles(n, n, tiles, m)
    assert cycles - 1 == last
    assert cycles == 3 * n + (tiles - 1) * max(m, n) + m - 1
    if utilization is not None:
        assert tiles * m / cycles == pytest.approx(utilization, abs=5e-4)


@pytest.mark.parametrize(("rows", "columns", "length"), [(4, 4, 9), (3, 5, 1), (16, 8, 64)])
@pytest.mark.parametrize("tiles", [1, 7])
def test_without_overlap_folds_are_those_of_scale_sim(rows: int, columns: int, length: int, tiles: int) -> None:
    """A constant per fold apart: the register at the foot (WS), the drain of R rows and that register (OS)."""
    ws_fold, os_fold = scale_sim_ws_fold(rows, columns, length), scale_sim_os_fold(rows, columns, length)
    assert ws_cycles(rows, columns, tiles, length, serialize=True) == tiles * (ws_fold + 1)
    assert os_cycles(rows, columns, tiles, length, serialize=True) == tiles * (os_fold + rows + 1)


@pytest.mark.parametrize("dataflows", [BOTH, ("ws",), ("os",)], ids="-".join)
@pytest.mark.parametrize("kind", PE_TYPES)
@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (4, 2), (1, 1)])
def test_any_slots_agree_with_the_golden_model(rows: int, columns: int, kind: str, dataflows: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    dut = make(rows, columns, dataflows, kind, weight_width=4)
    model = MeshModel(rows, columns, psum_width=PSUM_WIDTH, pe=kind)
    slots: list[Slot] = []
    switches, summed = 0, False                          # summed: the drain registers have been written
    for index in range(250):
        control = random_control(rng, dataflows)
        if index == 0:
            control = dataclasses.replace(control, first=control.accumulate)
        load_row = int(rng.integers(rows))
        activation, weight = rng.integers(-128, 128, rows), rng.integers(-8, 8, columns)
        psum = model.step(control, load_row, activation, weight)
        defined = summed if control.shift else "ws" in dataflows and not control.accumulate
        summed |= bool(control.last)
        fields = {name: int(getattr(control, name)) for name in pe_control_layout(dataflows).members}
        switches += bool(slots) and "os" in dataflows and slots[-1].control["accumulate"] != control.accumulate
        slots.append(Slot(activation=activation, weight=weight, result=psum if defined else None,
                          control=fields | ({"load_row": load_row} if "ws" in dataflows else {})))
    seen: list[int] = []
    simulate(dut, play(dut, slots, seen), seed=5)
    assert len(seen) > 50
    assert dataflows != BOTH or switches > 50


def test_each_block_is_emitted_once() -> None:
    """However large the mesh: itself, skew (both operands share it) and deskew, one row, one PE."""
    text = to_verilog(make(16, 16), "mesh")
    names = [line.split("(")[0].split()[1] for line in text.splitlines() if line.startswith("module ")]
    assert len(names) == len(set(names)) == 5
    assert sum(name.startswith("pe_mac") for name in names) == 1
    assert text.count(" pe_mac_a8_w8_p22_wsos ") == 16
    assert text.count(" mesh_row_16_mac_a8_w8_p22_wsos ") == 16
