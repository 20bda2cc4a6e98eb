"""`heddle report`: estimates from a synthesis, predicted cycles and coefficients."""

import json

import pytest

from flows.cli import main
from tb.sw.llamas import FIELDS, random_tensors, write_llama


def whole(area_unit="um2", **more):
    """Return what a synthesis of a design would say."""
    return {"area": 2e6, "memory_area": 1e6, "area_unit": area_unit, "clock_ns": 5.0, "fmax_mhz": 100.0,
            "estimated_fmax_mhz": 400.0, "power_mw": {"total": 20.0}, "liberty": {"name": "tiny"}, "activity": 0.1,
            "versions": {}, "notes": ["a note"], **more}


def test_report_prints_estimates_and_sources(capsys, monkeypatch):
    monkeypatch.setattr("flows.commands.report.synthesize", lambda *a, **k: whole())
    assert main(["report", "systolic-4x4", "--gemm", "16,16,16", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["mm2"] == pytest.approx(3.0)
    assert (answer["mhz"], answer["mhz_source"]) == (100.0, "OpenSTA")
    cycles = answer["predicted_cycles"]
    assert answer["utilization"] == pytest.approx(16 ** 3 / cycles / 16)
    assert answer["gmacs_per_mm2"] == pytest.approx(16 ** 3 / cycles * 0.1 / 3)
    assert answer["tokens_per_second_per_mm2"] == pytest.approx(16 * 100e6 / cycles / 3)
    assert answer["pj_per_mac_parts"]["logic"] == pytest.approx(20 * 5 * cycles / 16 ** 3)
    assert answer["pj_per_mac"] == pytest.approx(sum(answer["pj_per_mac_parts"].values()))
    assert all(entry["source"] for entry in answer["coefficients"].values())
    assert main(["report", "systolic-4x4", "--gemm", "16,16,16"]) == 0
    out = capsys.readouterr().out
    assert "estimates" in out
    assert "IHP Open PDK" in out
    assert max(map(len, out.splitlines())) <= 80


def test_report_without_a_library_knows_no_silicon(capsys, monkeypatch):
    monkeypatch.setattr("flows.commands.report.synthesize", lambda *a, **k: whole(
        "NAND2 equivalents", clock_ns=None, fmax_mhz=None, estimated_fmax_mhz=None, power_mw=None))
    assert main(["report", "systolic-4x4", "--workload", "square-64", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["mm2"] is answer["mhz"] is answer["gmacs_per_mm2"] is answer["pj_per_mac"] is None
    assert answer["utilization"] > 0


MODEL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
         "num_hidden_layers": 1, "max_position_embeddings": 48}


def test_report_of_a_language_model_is_of_one_token(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("flows.commands.report.synthesize", lambda *a, **k: whole())
    folder = write_llama(tmp_path / "llama", **MODEL)
    answers = {}
    for position in (0, 40):
        assert main(["report", "systolic-4x4", "--set", "vector=transformer", "--model", str(folder), "--position", str(position),
                     "--json"]) == 0
        answers[position] = json.loads(capsys.readouterr().out)
    first, late = answers.values()
    weights = sum(tensor.size for name, tensor in random_tensors({**FIELDS, **MODEL}).items()
                  if tensor.ndim == 2 and "embed" not in name)
    assert first["workload"] == "llama, token 0"
    assert first["macs"] == weights + 2 * 16            # a score and a product with values for each head
    assert late["macs"] == weights + 2 * 16 * 41
    assert weights <= first["bytes_moved"] < late["bytes_moved"] < 4 * weights      # small matrices are padded
    assert late["tokens_per_second"] == pytest.approx(100e6 / late["predicted_cycles"])
    assert late["predicted_cycles"] > first["predicted_cycles"]
    assert main(["report", "systolic-4x4", "--set", "vector=transformer", "--model", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "llama, token 24" in " ".join(out.split())
    assert "a token is the model's" in " ".join(out.split())


@pytest.mark.parametrize(("arguments", "text"), [
    (["--model", "MODEL", "--position", "48"], "--position must be between 0 and 47, not 48"),
    (["--model", "MODEL", "--position", "-1"], "--position must be between 0 and 47, not -1"),
    (["--position", "3"], "--position must go with --model"),
])
def test_report_refuses_a_position_that_cannot_be(capsys, tmp_path, arguments, text):
    folder = write_llama(tmp_path / "llama", **MODEL)
    arguments = [str(folder) if word == "MODEL" else word for word in arguments]
    assert main(["report", "systolic-4x4", "--set", "vector=transformer", *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


def test_report_refuses_a_workload_without_shapes(capsys):
    assert main(["report", "systolic-4x4", "--workload", "minilm-layer"]) == 2
    assert "--workload must be one whose GEMMs are known before it runs, not 'minilm-layer'" in capsys.readouterr().err
