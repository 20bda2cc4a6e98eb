"""BitMoD beside its paper: what is quick holds, what is long is asked for, and what is measured is what the figures say."""

from itertools import islice

import pytest

from flows.reproduce import Options, bitmod, rows_of
from flows.reproduce.row import Row
from sw.evaluate import Evaluation
from sw.models.llama_quantization import QuantizationPlan


def quick_rows() -> list[Row]:
    return [*bitmod._terms(), *bitmod._layer_models(), *bitmod._storage()]


def test_quick_rows_hold() -> None:
    rows = quick_rows()
    assert all(row.holds for row in rows)
    assert list(islice(rows_of("bitmod", Options()), len(rows))) == rows
    assert sum(row.target is not None for row in rows) == 9 + 2 + 3 + 4
    assert {row.quantity: row.ours for row in rows}["cycles of a group of 128, fp4"] == 64
    by_name = {row.quantity: row for row in rows}
    for kind in ("lossless", "lossy"):
        row = by_name[f"Llama-2-7B, 256 tokens, linear layers, {kind}: cycles"]
        assert row.ours == row.paper
    ours = [row for row in rows if "our PEs" in row.quantity]
    assert [row.ours for row in ours] == [1_238_827_008, 825_884_672]


def test_a_wrong_law_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmod, "bitmod_paper_layer", lambda *args: 1)
    assert sum(not row.holds for row in quick_rows()) == 2 + 3 + 4


def test_bits_of_a_weight() -> None:
    """Codes, and 16 bits for each group of 128."""
    rows = [row for row in quick_rows() if row.quantity.startswith("bits of a weight in memory")]
    assert [row.ours for row in rows] == [4.125, 3.125, 6.125]


def test_speedups_are_of_the_same_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between 1 and 4/T where computing binds; predicted without `--rtl`."""
    monkeypatch.setattr(bitmod, "SHAPES", {"prefill": (32, 64, 256)})
    rows = {row.quantity.split(", ")[1].split(":")[0]: row for row in bitmod._frame(Options())}
    assert list(rows) == ["int8", "bitmod4-g128", "bitmod3-g128", "int6-g128-int8"]
    assert 1 < rows["int6-g128-int8"].ours < rows["bitmod4-g128"].ours <= 2
    assert all("predicted" in row.note for row in rows.values())


def test_long_rows_ask_for_their_options() -> None:
    quality, areas = list(bitmod._quality(Options())), list(bitmod._areas(Options()))
    assert all(row.ours is None and row.note.startswith("not measured: give --model DIR") for row in quality)
    assert all(row.ours is None and row.note == "not measured: give --liberty PATH" for row in areas)
    assert len(quality) == len(areas) == 5


def test_quality_is_relative(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def evaluations(options: Options, plans: dict[str, QuantizationPlan]) -> dict[str, Evaluation]:
        return {name: Evaluation(bits=2.0 + 0.5 * index, tokens=1, bits_per_weight=4, seconds=0)
                for index, name in enumerate(plans)}

    monkeypatch.setattr(bitmod, "evaluations", evaluations)
    rows = list(bitmod._quality(Options(model=tmp_path)))
    assert [row.ours for row in rows] == [1.25, 1.5, 1.75, 2.0, 2.25]
    assert rows[0].paper == pytest.approx(1.0263, abs=1e-4)


def test_area_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of what was synthesized, with the cycles of each precision."""
    areas = {"mac32": 4.0, "mac16": 5.0, "bitmod": 2.0, "tile": 100.0, "weights": 3.0, "mesh": 60.0, "array": 80.0}
    monkeypatch.setattr(bitmod, "_pe_areas", lambda liberty: areas)
    rows = [row.ours for row in bitmod._areas(Options(liberty="generic"))]
    assert rows == [0.5, 4.0, 4 / 3 * 2.0, 0.4, 5.0, 4 / 3 * 2.5, 0.03, 1.5]
