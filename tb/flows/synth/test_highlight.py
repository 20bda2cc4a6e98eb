"""Areas of the core with and without sparsity: what is counted, and how often."""

import pytest

from flows.synth import highlight, sparse_energy
from flows.synth.highlight import CORES, core_areas, core_energies, memory_areas
from flows.synth.sparse_energy import energies
from hw.array.hss_column import HssColumn


@pytest.fixture
def synthesized(monkeypatch):
    """Give every column an area of 100 for each of its modes, everything else 7; list what was asked for."""
    asked = []

    def synthesize(design, *, top, options):
        asked.append((type(design).__name__, options.liberty))
        design._MustUse__used = True        # Amaranth would warn that it was never elaborated
        power = {"total": 2.0} if options.timing and options.liberty != "powerless.lib" else None
        return {"area": 100 * len(design.shape.modes) if isinstance(design, HssColumn) else 7, "power_mw": power, "clock_ns": 5.0}

    monkeypatch.setattr(highlight, "synthesize", synthesize)
    return asked


def test_columns_count_64_times_and_what_they_share_once(synthesized):
    areas = core_areas("some.lib")
    assert list(areas) == list(CORES)
    assert areas["dense"] == 64 * 100 + 2 * 7                           # fetch, former
    assert areas["2:4"] == 64 * 200 + 3 * 7                             # and the check of coordinates
    assert areas["15 modes"] == 64 * 1600 + 3 * 7
    assert areas["15 modes and SDQ"] == 64 * 1700 + 5 * 7               # and two quantizers to FP4
    assert {liberty for _, liberty in synthesized} == {"some.lib"}
    assert sum(name == "HssColumn" for name, _ in synthesized) == len(CORES)
    assert sum(name == "Fp4Quantizer" for name, _ in synthesized) == 1                 # counted twice


def test_the_dense_core_has_neither_coordinates_nor_gating():
    dense, gated = CORES["dense"], CORES["dense, gated"]
    assert not dense.metadata
    assert not dense.gating
    assert gated.gating
    assert not gated.metadata


def test_energy_is_power_times_the_clock(synthesized):
    found = core_energies("some.lib")
    assert found["dense"] == (64 + 2) * 2.0 * 5.0                       # columns, fetch, former
    assert found["15 modes and SDQ"] == (64 + 5) * 2.0 * 5.0
    with pytest.raises(ValueError, match=r"^energy of logic must come from a cell library with power, and OpenSTA, not from "
                                         r"powerless\.lib \(column: no power\)$"):
        core_energies("powerless.lib")


def test_memories_are_those_of_the_accelerator_and_kept_lines():
    areas = memory_areas("generic")
    assert areas["dense"] == areas["dense, gated"] < areas["2:4"] == areas["15 modes and SDQ"] < 1.05 * areas["dense"]


def test_energy_and_delay_with_logic(monkeypatch):
    """Every mode on the core that has it, over dense weights on the dense core; memory as without a library."""
    monkeypatch.setattr(sparse_energy, "core_energies", lambda liberty: {
        "dense": 1000.0, "dense, gated": 1050.0, "2:4": 1100.0, "15 modes": 1200.0, "15 modes and SDQ": 1500.0})
    table, without = energies("some.lib"), {row["mode"]: row for row in energies()}
    dense = table[0]
    assert (dense["mode"], dense["core"], dense["energy-delay over dense"], dense["speedup"]) == ("int8", "dense", 1.0, 1.0)
    assert dense["logic uJ"] == pytest.approx(dense["cycles"] * 1000 / 1e6)
    for row in table:
        assert row["memory uJ"] == without[row["mode"]]["memory uJ"]
        assert row["energy-delay over dense"] == pytest.approx(
            row["cycles"] * (row["logic uJ"] + row["memory uJ"]) / dense["cycles"] / (dense["logic uJ"] + dense["memory uJ"]))
    cores = {(row["mode"], row["core"]) for row in table}
    assert {("2:4", "2:4"), ("2:4", "15 modes"), ("int8", "15 modes"), ("sdq-7:8-1:8int8-6:8fp4", "15 modes and SDQ")} <= cores
