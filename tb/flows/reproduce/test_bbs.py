"""BBS beside its paper: what is quick holds, what is long is asked for, and what is measured is what the figures say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.reproduce import Options, bbs, rows_of
from sw.evaluate import Evaluation
from sw.formats import dequantize, quantize
from sw.models.llama import LlamaModel


def test_quick_rows_hold(monkeypatch):
    monkeypatch.setattr(bbs, "_GROUPS", 300)
    monkeypatch.setattr(bbs, "_frame", lambda options: iter(()))
    rows = list(rows_of("bbs", Options()))
    assert all(row.holds for row in rows)
    assert sum(row.target is not None for row in rows) == 3 + 2 + 2 + 2 + 6
    found = {row.quantity: row.ours for row in rows}
    names = ("int8", "bbs-average-g32", "bbs-shift-g32", "Stripes")
    assert [found[f"cycles of 16 weights, {name}"] for name in names] == [8, 6, 4, 16]
    assert found["speedup over Stripes where computing binds, moderate: as our engine takes it"] == pytest.approx(3.2)
    assert found["compression of int8 weights, moderate: in memory"] == pytest.approx(1.6)
    assert all(row.note.startswith("not measured: give --") for row in rows if row.ours is None)
    assert sum(row.ours is None for row in rows) == 7 + 2 + 2 + 5
    assert found["compression of int8 weights, moderate, one command: in memory"] == pytest.approx(8 / 5.25)
    assert found["speedup over Stripes where computing binds, moderate, one command"] == pytest.approx(64 / 21)


def test_a_wrong_formula_does_not_hold(monkeypatch):
    monkeypatch.setattr(bbs, "bitvert_tile_cycles", lambda config, k, mode: k)
    assert sum(not row.holds for row in bbs._cycles()) == 2


def test_speedups_are_of_the_same_gemm(monkeypatch):
    """More than the engine's lanes alone give, and no more than the columns; predicted without `--rtl`."""
    monkeypatch.setattr(bbs, "SHAPES", {"prefill": (64, 768, 128)})
    rows = list(bbs._frame(Options()))
    int8, average, shift, mixed, mixed_moderate, over_macs, conservative, _, moderate = (row.ours for row in rows)
    assert int8 < mixed < average
    assert int8 < mixed < mixed_moderate < shift
    assert 1 < over_macs <= 1.02 * conservative
    assert 1 < int8 < average < shift <= 4
    assert int8 < conservative < average
    assert int8 < moderate < shift
    assert all("predicted" in row.note for row in rows)


def test_quality_and_areas_are_relative(monkeypatch):
    def evaluations(options: Options, plans: Any, instead: Any) -> dict[str, Evaluation]:
        assert list(instead) == ["conservative", "moderate", "bbs-average-g32-1of8", "bbs-shift-g32-1of4",
                                 "conservative, planned", "moderate, planned"]
        return {name: Evaluation(bits=2.0 + 0.5 * index, tokens=1, bits_per_weight=4, seconds=0)
                for index, name in enumerate(("float32", *(name for name in plans if name != "float32")))}

    monkeypatch.setattr(bbs, "evaluations", evaluations)
    areas = {"bitvert": 15, "stripes": 10, "bitvert array": 16, "stripes array": 12}
    monkeypatch.setattr(bbs, "_pe_areas", lambda liberty: areas)
    monkeypatch.setattr(bbs, "_planned", lambda checkpoint, setting: (0.3, 5.0 if setting == "moderate" else 6.4, {}))
    monkeypatch.setattr(bbs, "LlamaModel", lambda folder: SimpleNamespace(checkpoint=None))
    rows = list(bbs._quality(Options(model=Path("m"))))
    assert [row.ours for row in rows[:11]] == [1.25, 1.6, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25]
    assert [row.ours for row in rows[11:]] == [2.0 + 0.5 * index for index in range(10)]
    assert rows[11].quantity == "bits of a token, float32"
    ratio, *gains = [row.ours for row in bbs._areas(Options(liberty="generic"))]
    assert ratio == 1.5
    assert gains == pytest.approx([16 / 6.425 / 1.5, 16 / 6.425 * 0.75, 3.2 / 1.5, 3.2 * 0.75])


def test_split_keeps_the_channels_of_the_largest_scales():
    """Those in int8, rounded up to 32 of a matrix; the others without columns."""
    model = LlamaModel(Path(__file__).resolve().parents[3] / "models" / "python-llama-1m")
    split = bbs._split(model.checkpoint, "bbs-shift-g32", 0.2)
    assert len(split) == 5 * 7
    kept = 0
    for (layer, part), matrix in split.items():
        given = getattr(model.checkpoint.layer(layer), part)
        int8, bbs_ = (dequantize(quantize(given, name)).astype(np.float32) for name in ("int8", "bbs-shift-g32"))
        whole = (matrix == int8).all(axis=1)
        assert ((matrix == bbs_).all(axis=1) | whole).all()
        assert whole.sum() % 32 == 0
        kept += int(whole.sum())
    assert 0.2 <= kept / sum(len(matrix) for matrix in split.values()) < 0.35


def test_lanes_keep_one_of_four():
    """In each lane of 128 outputs the channel of the largest scale is int8, the others are without columns."""
    model = LlamaModel(Path(__file__).resolve().parents[3] / "models" / "python-llama-1m")
    mixed = bbs._lanes(model.checkpoint, "bbs-shift-g32-1of4")
    assert len(mixed) == 5 * 7
    matrix, given = mixed[2, "o"], model.checkpoint.layer(2).o
    int8, pruned = (dequantize(quantize(given, name)).astype(np.float32) for name in ("int8", "bbs-shift-g32"))
    largest = np.abs(given).max(axis=1).reshape(4, 32).argmax(axis=0) * 32 + np.arange(32)
    kept = np.isin(np.arange(128), largest)[:, None]
    np.testing.assert_array_equal(matrix, np.where(kept, int8, pruned))
    assert [mixed[1, part].shape for part in "qkv"] == [getattr(model.checkpoint.layer(1), part).shape for part in "qkv"]


def test_planned_formats_are_those_of_the_plan():
    """Between a fifth and a third of the channels are int8; gate and up share what their linear has."""
    model = LlamaModel(Path(__file__).resolve().parents[3] / "models" / "python-llama-1m")
    share, bits, matrices = bbs._planned(model.checkpoint, "moderate")
    assert len(matrices) == 5 * 7
    kept = total = 0
    for (layer, part), matrix in matrices.items():
        given = getattr(model.checkpoint.layer(layer), part)
        int8, pruned = (dequantize(quantize(given, name)).astype(np.float32) for name in ("int8", "bbs-shift-g32"))
        whole = (matrix == int8).all(axis=1)
        assert ((matrix == pruned).all(axis=1) | whole).all(), (layer, part)
        kept, total = kept + int(whole.sum()), total + len(matrix)
    assert 0.2 <= share < 0.34
    assert kept / total == pytest.approx(share, abs=0.02)      # rows that are the same in both count as kept
    assert 4.25 < bits < 6


def test_what_is_synthesized(monkeypatch):
    """PEs are flattened, arrays keep their hierarchy."""
    found = {}

    def synthesize(design: Any, *, top: str, options: Any) -> dict[str, Any]:
        found[type(design).__name__] = options.flatten
        design._MustUse__used = True        # Amaranth would warn that it was never elaborated
        return {"area": 1.0}

    monkeypatch.setattr("flows.synth.asic.synthesize", synthesize)
    assert bbs._pe_areas("generic") == dict.fromkeys(("bitvert", "stripes", "bitvert array", "stripes array"), 1.0)
    assert found == {"BitvertPE": True, "StripesPE": True, "BitvertArray": False, "StripesArray": False}
