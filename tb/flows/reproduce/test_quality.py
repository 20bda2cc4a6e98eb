"""Quality in a comparison is what `heddle eval` says."""

import json

import pytest

from flows.cli import main
from flows.reproduce import Options
from flows.reproduce.quality import WINDOWS, evaluations
from sw.models.llama_quantization import QuantizationPlan
from tb.sw.llamas import write_llama


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model")


@pytest.fixture(autouse=True)
def small_text(monkeypatch):
    """Files of a few hundred bytes instead of Python's library."""
    files = {name: b"def %d(x):\n    return x + 1\n" % number * 40 for number, name in enumerate("abcdef")}
    for place in ("flows.sparsity.documents", "flows.commands.eval.documents"):
        monkeypatch.setattr(place, lambda: (files, dict(list(files.items())[:2])))


def test_it_is_what_eval_says(model, capsys):
    found = evaluations(Options(model=model, windows=3), {"exact": QuantizationPlan(),
                                                          "2:4": QuantizationPlan.named(weights="2:4")})
    assert main(["eval", "--model", str(model), "--weights", "2:4", "--windows", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (found["2:4"].bits, found["exact"].bits) == (answer["bits_per_byte"], answer["unquantized"])
    assert found["2:4"].bits != found["exact"].bits
    assert evaluations(Options(model=model), {"": QuantizationPlan()})[""].tokens == 16 + 8 * (WINDOWS - 1)


def test_without_a_model_there_is_none():
    with pytest.raises(ValueError, match=r"^quality must be of a model: Options\.model must be a folder, not None$"):
        evaluations(Options(), {})
