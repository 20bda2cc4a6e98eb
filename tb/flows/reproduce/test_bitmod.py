"""BitMoD beside its paper: what is quick holds, what is long is asked for, and what is measured is what the figures say."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from flows.reproduce import Options, bitmod, bitmod_float, rows_of
from flows.reproduce.row import Row
from hw.config import AcceleratorConfig
from hw.presets import PRESETS
from sw.evaluate import Evaluation
from sw.models.llama_quantization import QuantizationPlan

MODEL = Path(__file__).parents[3] / "models/python-llama-1m"


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


def test_speedups_over_float16_are_of_the_same_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """4/T at most where computing binds; layers and areas ask for their options."""
    monkeypatch.setattr(bitmod_float, "SHAPES", {"prefill": (32, 64, 256)})
    rows = list(bitmod_float.float_rows(Options()))
    speedups = {row.quantity.split(", ")[1].split(":")[0]: row.ours for row in rows if "equal PEs" in row.quantity and row.ours}
    assert list(speedups) == ["int6-g128-int8", "bitmod4-g128", "bitmod3-g128"]
    assert 1.1 < speedups["int6-g128-int8"] < 4 / 3 + 0.01
    assert 1.6 < speedups["bitmod4-g128"] < 2.01
    notes = [row.note for row in rows if row.ours is None]
    assert notes == ["not measured: give --model DIR"] * 2 + ["not measured: give --liberty PATH"] * 4


def test_equal_area_is_the_ratio_of_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmod_float, "SHAPES", {"prefill": (8, 16, 256)})
    monkeypatch.setattr(bitmod_float, "_areas", lambda liberty: {"float array": 4.0, "bitmod array": 3.0, "float engine": 6.0,
                                                                 "bitmod engine": 5.0})
    rows = list(bitmod_float.float_rows(Options(liberty="generic")))
    equal = [row for row in rows if "equal PEs" in row.quantity and row.ours]
    area = [row for row in rows if "equal area" in row.quantity]
    assert [row.ours for row in area] == pytest.approx([1.2 * row.ours for row in equal])
    assert [row.paper for row in area] == [pytest.approx(1.9134, abs=1e-4), pytest.approx(2.6241, abs=1e-4), None]
    (ratio,) = [row for row in rows if row.quantity.startswith("area of 8×8 PEs")]
    assert ratio.ours == 0.75


def test_layers_of_the_shipped_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted without `--rtl`: the seven linears of one token, three formats and the baseline."""
    asked = []

    def cycles(options: Options, config: AcceleratorConfig, tokens: int, weights: str) -> int:
        asked.append((config.engine, tokens, weights))
        return {"float16": 2000}.get(weights, 1000)

    monkeypatch.setattr(bitmod_float, "_layer_cycles", cycles)
    rows = list(bitmod_float._layers(Options(model=MODEL)))
    assert [row.ours for row in rows] == [2.0] * 6
    assert asked[:2] == [("float", 15, "float16"), ("bitmod", 15, "int6-g128-int8")]


def test_cycles_of_a_layer() -> None:
    config = replace(PRESETS["float-16x16"], scratchpad_bytes=1 << 20)
    assert 5_000 < bitmod_float._layer_cycles(Options(model=MODEL), config, 1, "float16") < 50_000


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
    assert [row.ours for row in rows] == [1.25, 1.5, 1.75, 2.0, 2.25, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    assert [row.quantity for row in rows[5:7]] == ["bits of a token, float32", "bits of a token, bitmod4-g128"]
    assert rows[0].paper == pytest.approx(1.0263, abs=1e-4)


def test_area_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of what was synthesized, with the cycles of each precision."""
    areas = {"mac32": 4.0, "mac16": 5.0, "bitmod": 2.0, "tile": 100.0, "weights": 3.0, "mesh": 60.0, "array": 80.0}
    monkeypatch.setattr(bitmod, "_pe_areas", lambda liberty: areas)
    rows = [row.ours for row in bitmod._areas(Options(liberty="generic"))]
    assert rows == [0.5, 4.0, 4 / 3 * 2.0, 0.4, 5.0, 4 / 3 * 2.5, 0.03, 1.5]
