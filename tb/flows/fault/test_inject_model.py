"""`heddle inject --model` as a user types it."""

import json

import pytest

import flows.commands.inject_model
from flows.cli import main
from tb.sw.llamas import write_llama

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
         "num_hidden_layers": 1, "max_position_embeddings": 48}
CONFIG = ("systolic-4x4", "--set", "vector=transformer")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("models") / "model", **SMALL)


def inject(model, *arguments, config=CONFIG):
    return main(["inject", *config, "--model", str(model), *map(str, arguments)])


def test_figures_and_table(capsys, model, monkeypatch):
    monkeypatch.setattr(flows.commands.inject_model, "_CALIBRATED_ON", 3)
    options = ("--prompt", "abc", "--tokens", 2, "--faults", 90, "--tiles", 3, "--effects", 4)
    assert inject(model, *options, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["faults"], answer["tiles"], answer["generated"], answer["prompt_tokens"]) == (90, 3, 2, 4)
    assert sum(answer["outcomes"].values()) == 90
    assert set(answer["outcomes"]) == {"masked", "corrected", "detected", "sdc", "hang"}
    assert answer["limits"] is None
    (model / "prompt.txt").write_text("abc")
    assert inject(model, *options[2:], "--range-margin", 1.5) == 0
    shown = capsys.readouterr().out
    for words in ("model on systolic-4x4 with range restriction: 90 upsets", "other tokens among the next 2", "critical",
                  "bits per token of the prompt", "silent corruption"):
        assert words in shown


@pytest.mark.parametrize(("options", "message"), [
    (("--kind", "set"), "--kind must be seu with --model, not set"),
    (("--engine", "verilator"), "--engine must be lanes with --model, not verilator"),
    (("--method", "stratified"), "--method must be uniform with --model, not stratified"),
    (("--ci", 0.1), "--ci cannot go with --model"), (("--index", 3), "--index cannot go with --model"),
    (("--exhaustive",), "--exhaustive cannot go with --model"), (("--resume",), "--resume cannot go with --model"),
    (("--workers", 2), "--workers cannot go with --model"), (("--cells", "ff"), "--cells cannot go with --model"),
    (("--layer", 1), "--layer cannot go with --model"), (("--memory-fit", 1), "--memory-fit cannot go with --model"),
    (("--boost", "a=2"), "--boost cannot go with --model"), (("--adjacent", 2), "--adjacent cannot go with --model"),
    (("--faults", 10), "--tiles must be at least 1 and at most --faults, not 32 for 10 faults"),
    (("--prompt", ""), "--prompt must have at least one character, not none")])
def test_what_cannot_be(capsys, model, options, message):
    assert inject(model, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_prompt_is_needed(capsys, tmp_path):
    folder = write_llama(tmp_path / "other", **SMALL)
    assert inject(folder) == 2
    assert "--prompt must be given: there is no" in " ".join(capsys.readouterr().err.split())
