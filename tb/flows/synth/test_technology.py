"""Coefficients of processes."""

import pytest

from flows.synth.technology import technology


def test_the_area_of_a_macro_is_that_of_the_macros_that_it_was_drawn_from():
    nand2 = technology()["reference_nand2"]
    assert technology().memory_area(64, 32, 2) * nand2 == pytest.approx(52620.88, rel=1e-2)
    assert technology().memory_area(64, 22, 2) * nand2 == pytest.approx(526.03 * 74.87, rel=1e-2)
    assert technology().memory_area(1024, 16, 2) * nand2 == pytest.approx(402.61 * 385.37, rel=0.05)
    assert technology().memory_area(64, 32, 3) == 1.5 * technology().memory_area(64, 32, 2)


def test_every_coefficient_has_a_source_and_a_grade():
    for entry in technology().entries.values():
        assert entry.grade in "FDI"
        assert len(entry.source) > 20
    assert technology().memory_access("sg13g2_stdcell_typ") == 4.38
    assert technology().memory_access("unheard_of") is None
