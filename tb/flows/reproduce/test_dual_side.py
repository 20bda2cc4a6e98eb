"""The dual-side sparse core beside structured ones: speeds by the formulas, simulation, the published cycles."""

from types import SimpleNamespace

import numpy as np
import pytest

from flows.reproduce import Options, rows_of
from flows.reproduce import dual_side as module
from flows.reproduce.dual_side import dstc_random_cycles, simulated_rows, speed_rows
from hw.presets import preset_named


def test_speeds_over_density() -> None:
    """Structured cores gain what their pattern says, whatever activations are; the dual-side core gains by both."""
    found = {row.quantity.removeprefix("speed at density "): row.ours for row in speed_rows()}
    for density, hss, stc in (("1.00", 1, 1), ("0.50", 2, 2), ("0.33", 3, 2), ("0.25", 4, 2)):
        at = f"{density} of weights, "
        assert (found[at + "tc"], found[at + "stc"], found[at + "hss"]) == (1, stc, hss)
        assert 1.5 < found[at + "dstc, activations 0.5"] / found[at + "dstc, activations 1"] < 2
    assert 0.99 < found["1.00 of weights, dstc, activations 1"] < 1         # rows that leave
    assert found["0.50 of weights, dstc, activations 1"] < 2                # ⌈nnz/16⌉ of 32 is two where one is too many


def test_cycles_of_dense_operands_are_the_law() -> None:
    config = preset_named("dstc-8x16")
    assert dstc_random_cycles(config, (40, 48, 64), (1.0, 1.0)) == (4 + 1) * (2 + 1) * 64 + 2 * (32 + 8)


def test_highlight_and_sparseloop_have_the_rows() -> None:
    names = {row.quantity for row in rows_of("highlight", Options())}
    assert {row.quantity for row in speed_rows()} <= names
    assert "speedup of a GEMM of 64×64×768 in simulation, dstc-8x16" in names
    ours = {row.quantity: row for row in rows_of("sparseloop", Options())}
    framed = {quantity: row for quantity, row in ours.items() if quantity.startswith("DSTC in the frame")}
    assert len(framed) == 10
    assert all(row.holds and row.paper is not None for row in framed.values())
    assert framed["DSTC in the frame 0.5 × 0.4: cycles / dense"].ours != ours["DSTC 0.5 × 0.4: cycles / dense"].ours


def test_simulation_compares_cycles_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats by two densities of activations, which the operands have."""
    seen = []

    def measured(workload, config, device):
        assert device == ("simulated", config)
        cases = []
        assert workload.runner(config, cases.append, None) == {}
        seen.append((workload.weights, np.count_nonzero(cases[0].a) / cases[0].a.size))
        return SimpleNamespace(gemms=[SimpleNamespace(cycles=1000 // len(seen))], match=len(seen) != 3)

    monkeypatch.setattr(module, "RtlDevice", lambda config: ("simulated", config))
    monkeypatch.setattr(module, "measure", measured)
    *speeds, differ = simulated_rows(Options(rtl=True))
    assert [name for name, _ in seen] == ["int8", "64:64", "32:64", "16:64"] * 2
    assert [round(density, 1) for _, density in seen] == [1.0] * 4 + [0.5] * 4
    assert [row.ours for row in speeds] == [1000 / (1000 // number) for number in range(1, 9)]
    assert (differ.ours, differ.holds) == (1, False)
    row, = simulated_rows(Options())
    assert (row.ours, row.note) == (None, "not measured: give --rtl")
