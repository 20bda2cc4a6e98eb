"""The hybrid systolic array's rows: what is derived is met, nothing inferred is printed as the paper's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows.reproduce import Options, rows_of
from flows.reproduce.hsa_rates import model_cycles, run_cycles
from hw.presets import preset_named
from sw.generate import arguments
from sw.golden.llama import LlamaConfig
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.perf import MemoryModel, predict


def test_rows() -> None:
    rows = {row.quantity: row for row in rows_of("hsa", Options())}
    assert all(row.holds for row in rows.values())
    assert rows["bits of an MXINT4 weight, blocks of 32"].ours == 4.25
    assert rows["tokens/s by weights alone at 12.8 GB/s"].ours == rows["tokens/s by weights alone at 12.8 GB/s"].paper == 18.4
    assert rows["weight stream busy, 2^22 weights, 32×32"].ours >= 0.99
    assert rows["1×768×768 over SCALE-Sim, WS, nothing overlapped"].note.startswith("108288 to ")
    assert rows["1×768×768 over SCALE-Sim, OS"].note.startswith("38304 to ")
    assert rows["1×768×768 over systolic-16x16, int8"].ours > 1.8
    for scenario, rate in (("long input", 247), ("long output", 117)):
        row = rows[f"tokens/s/mm², {scenario}"]
        assert (row.paper, row.ours) == (rate, None)
        assert row.note.startswith("not measured: give --liberty PATH; the paper's token counts, area and node are not known")


SYNTHESIS = {"area_unit": "um2", "area": 12e6, "memory_area": 28e6, "clock_ns": 10.0, "fmax_mhz": 104.0,
             "estimated_fmax_mhz": None, "power_mw": None, "activity": 0.1, "memories": [], "liberty": {"name": "cells"}}


@pytest.mark.parametrize("unit", ["um2", "nand2"])
def test_tokens_of_a_second_and_square_millimetre(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """2176 tokens in 10⁹ cycles at 100 MHz on 40 mm²: 5.44; what stands behind it is named. No mm², no figure."""
    monkeypatch.setattr("flows.emit.emit", lambda _: SimpleNamespace(verilog="", top="top"))
    monkeypatch.setattr("flows.synth.asic.synthesize", lambda *_, **__: {**SYNTHESIS, "area_unit": unit})
    monkeypatch.setattr("flows.reproduce.hsa.model_cycles", lambda *_: (6e8, 4e8))
    rows = {row.quantity: row for row in rows_of("hsa", Options(liberty="cells.lib"))}
    for scenario in ("long input", "long output"):
        row = rows[f"tokens/s/mm², {scenario}"]
        assert row.ours == (5.44 if unit == "um2" else None)
        assert ("40.0 mm² in cells" if unit == "um2" else "cells.lib has no areas in mm²") in row.note
        assert "not known" in row.note


SMALL = LlamaConfig(vocab=64, hidden=64, ffn=64, layers=3, heads=4, kv_heads=4, head_dim=16, context=256, rope_theta=1e4,
                    norm_eps=1e-5, tied=True)


def test_cycles_of_a_whole_model() -> None:
    """Layers are alike and positions cost evenly: what is predicted for few of them stands for all."""
    config = preset_named("hybrid-16x16")
    memory = decoder_memory(config, SMALL, tokens=16, plan=WeightPlan.uniform(3, "mxint4", "mxint4"))
    program = decoder_program(config, memory, tokens=1, code_addr=memory.end, make_angles=True)
    cycles = [predict(config, program, arguments(program, position, 1, resync=False), MemoryModel()).cycles
              for position in range(32, 48)]
    _, tokens = model_cycles(config, 32, 16, SMALL)
    assert tokens == pytest.approx(sum(cycles), rel=0.01)


def test_tokens_of_other_presets_and_memories() -> None:
    """Wide layers are bound by weights: 8 bits take 8 / 4.25 times as long as MXINT4, half the bandwidth twice as long."""
    model = replace(SMALL, hidden=1024, ffn=1024, heads=8, kv_heads=8, head_dim=128)
    systolic, whole, half = (
        run_cycles(preset_named(name), 1, 0, chunk=1, head="none", memory=MemoryModel(bandwidth=rate), model=model)
        for name, rate in (("systolic-16x16", 1.0), ("hybrid-16x16", 1.0), ("hybrid-16x16", 0.5)))
    assert systolic / whole == pytest.approx(8 / 4.25, rel=0.06)
    assert half / whole == pytest.approx(2, rel=0.06)
