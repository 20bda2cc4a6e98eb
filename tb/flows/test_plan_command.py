"""`heddle plan` as a user types it, and `heddle generate` with what it writes."""

import json

import pytest

from flows.cli import main
from sw.kernels.transformer.weight_plan import LINEARS, WeightPlan
from tb.sw.llamas import write_llama

FORMATS = "int8,bbs-shift-g32,bbs-shift-g32-1of2,bbs-shift-g32-1of8"
CONFIG = ("bitvert-8x8", "--set", f"weight_formats={FORMATS}")


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model", head_dim=16, hidden_size=32, intermediate_size=40, max_position_embeddings=32)


def plan(model, *arguments, config=CONFIG):
    return main(["plan", *config, "--model", str(model), "--weights", "bbs-shift-g32", *map(str, arguments)])


def test_a_plan_is_written_and_runs(capsys, model, tmp_path):
    file = tmp_path / "plan.json"
    assert plan(model, "-o", file, "--share", "0.3", "--head", "int8", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    found = WeightPlan.from_json(file.read_text(), 2)
    assert found.head == "int8"
    assert [choice["weights"] for choice in answer["choices"]] == [name for layer in found.layers for name in layer]
    assert all(choice["kept"] * choice["channels"] >= choice["sensitive"] for choice in answer["choices"])
    channels = sum(choice["channels"] for choice in answer["choices"])
    assert sum(choice["sensitive"] for choice in answer["choices"]) == round(0.3 * channels)
    assert 0.3 <= answer["kept"] <= 1
    assert 4.25 < answer["bits"] < 12          # rows of 20 to 40 inputs, padded to 64
    assert main(["generate", *CONFIG, "--model", str(model), "--weights", str(file), "--prompt", "ab", "--tokens", "2",
                 "--device", "golden", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 2


def test_people_see_a_row_for_each_layer(capsys, model, tmp_path):
    assert plan(model, "-o", tmp_path / "plan.json") == 0
    out = " ".join(capsys.readouterr().out.split())         # lines are as wide as the terminal
    assert "of those that the config's formats have: 0, 0.125, 0.5, 1 " in out
    assert "20% sensitive channels of model" in out
    assert all(name in out for name in LINEARS)
    assert "bits a weight in memory" in out
    assert "→" in out


@pytest.mark.parametrize(("arguments", "said"), [
    (("-o", "plan.txt"), "-o must be a .json file in a folder that exists, not 'plan.txt'"),
    (("-o", "none/plan.json"), "-o must be a .json file in a folder that exists, not 'none/plan.json'"),
    (("-o", "plan.json", "--share", "2"), "--share must be between 0 and 1, not 2.0"),
    (("-o", "plan.json", "--share", "nan"), "--share must be between 0 and 1, not nan"),
    (("-o", "plan.json", "--weights", "int8"),
     "a plan by sensitivity must start from a format of bit columns, such as bbs-shift-g32, not 'int8'"),
    (("-o", "plan.json", "--head", "mxint4"),
     f"--head must be one of {FORMATS.replace(',', ', ')} for this config, not 'mxint4'"),
])
def test_what_is_refused(capsys, monkeypatch, model, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert plan(model, *arguments) == 2
    assert capsys.readouterr().err == f"heddle: {said}\n"
    assert not (tmp_path / "plan.json").exists()
