"""Areas of the core with and without sparsity: what is counted, and how often."""

import pytest

from flows.synth import highlight
from flows.synth.highlight import CORES, core_areas
from hw.array.hss_column import HssColumn


@pytest.fixture
def synthesized(monkeypatch):
    """Give every column an area of 100 for each of its modes, everything else 7; list what was asked for."""
    asked = []

    def synthesize(design, *, top, options):
        asked.append((type(design).__name__, options.liberty))
        design._MustUse__used = True        # Amaranth would warn that it was never elaborated
        return {"area": 100 * len(design.shape.modes) if isinstance(design, HssColumn) else 7}

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
    assert sum(name == "Fp4Quantizer" for name, _ in synthesized) == 2


def test_the_dense_core_has_neither_coordinates_nor_gating():
    dense, gated = CORES["dense"], CORES["dense, gated"]
    assert not dense.metadata
    assert not dense.gating
    assert gated.gating
    assert not gated.metadata
