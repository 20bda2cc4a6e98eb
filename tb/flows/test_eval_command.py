"""`heddle eval` as a user types it."""

import json
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from flows.cli import main
from flows.commands import common
from flows.sweep import SWEEP
from sw.evaluate import evaluate, windows_of
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.python_text import documents
from tb.sw.llamas import FIELDS, random_tensors, write_llama

ROOT = Path(__file__).resolve().parents[2]
TEXT = "def f(x):\n    return x + 1\n" * 6


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.py").write_text(TEXT)
    return tmp_path / "text.py"


def answer_of(capsys, *arguments):
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_quantized_figure_stands_beside_the_unquantized_one(capsys, model, text):
    answer = answer_of(capsys, "--model", model, "--text", text, "--weights", "int4-g32", "--activations", "int8", "--kv", "int4",
                       "--windows", "3")
    windows, checkpoint = windows_of([0, *TEXT.encode()], 16, 3), LlamaModel(model).checkpoint
    quantized = evaluate(checkpoint, QuantizationPlan.named(weights="int4-g32", activations="int8", kv="int4"), windows)
    assert answer["bits_per_byte"] == quantized.bits
    assert answer["unquantized"] == evaluate(checkpoint, QuantizationPlan(), windows).bits
    assert answer["bits_per_byte"] != answer["unquantized"]
    assert answer["bits_per_weight"] == quantized.bits_per_weight > 4.5
    assert (answer["windows"], answer["context"], answer["tokens"]) == (3, 16, 16 + 8 + 8)
    assert (answer["weights"], answer["activations"], answer["kv"], answer["queries"]) == ("int4-g32", "int8", "int4", None)
    assert answer["parameters"] == checkpoint.parameters
    assert answer["seconds"] > 0
    assert "perplexity" not in answer


@pytest.mark.parametrize("option", ["--weights", "--activations", "--kv", "--queries", "--probabilities", "--head"])
def test_each_option_changes_something(capsys, model, text, option):
    answer = answer_of(capsys, "--model", model, "--text", text, option, "int3")
    assert answer[option.removeprefix("--")] == "int3"
    assert abs(answer["bits_per_byte"] - answer["unquantized"]) > 1e-4


def test_without_formats_it_is_the_model_itself(capsys, model, text):
    answer = answer_of(capsys, "--model", model, "--text", text)
    assert answer["bits_per_byte"] == answer["unquantized"]
    assert answer["bits_per_weight"] == 32
    assert answer["python"] is None


def test_held_out_files_are_the_default(capsys, model):
    answer = answer_of(capsys, "--model", model, "--windows", "4", "--context", "8")
    assert answer == {**answer_of(capsys, "--model", model, "--windows", "4", "--context", "8", "--held-out"),
                      "seconds": answer["seconds"]}
    assert answer["text"] == "held-out files of Python's library"
    assert answer["python"] == ".".join(map(str, sys.version_info[:3]))
    tokens = [token for text in documents()[1].values() for token in (0, *text)]
    windows = windows_of(tokens, 8, 4)
    assert answer["bits_per_byte"] == evaluate(LlamaModel(model).checkpoint, QuantizationPlan(), windows).bits


def test_all_windows(capsys, model, text):
    answer = answer_of(capsys, "--model", model, "--text", text, "--windows", "all")
    assert answer["windows"] == len(windows_of([0, *TEXT.encode()], 16).tokens)


def test_tokens_that_are_no_bytes_have_a_perplexity(capsys, model, text):
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(["[UNK]", *sorted(set(TEXT.split()))])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(model / "tokenizer.json"))
    answer = answer_of(capsys, "--model", model, "--text", text, "--weights", "int8", "--windows", "2")
    windows = windows_of(tokenizer.encode(TEXT).ids, 16, 2)
    found = evaluate(LlamaModel(model).checkpoint, QuantizationPlan.named(weights="int8"), windows)
    assert answer["perplexity"] == found.perplexity == 2 ** found.bits
    assert "bits_per_byte" not in answer
    assert main(["eval", "--model", str(model), "--text", str(text), "--windows", "2"]) == 0
    assert f"\nperplexity: {answer['unquantized']:.4f}\n" in capsys.readouterr().out


def test_a_quantized_model_is_evaluated_as_it_is(capsys, tmp_path, model, text):
    assert main(["quantize", str(model), "--format", "int4-g32", "--skip", "lm_head*", "-o", str(tmp_path / "q")]) == 0
    capsys.readouterr()
    stored = answer_of(capsys, "--model", tmp_path / "q", "--text", text, "--activations", "int8")
    fresh = answer_of(capsys, "--model", model, "--text", text, "--weights", "int4-g32", "--activations", "int8")
    assert stored["unquantized"] is None
    assert stored["bits_per_byte"] == fresh["bits_per_byte"]
    assert stored["bits_per_weight"] == pytest.approx(fresh["bits_per_weight"])
    assert main(["eval", "--model", str(tmp_path / "q"), "--text", str(text)]) == 0
    assert "as stored" in capsys.readouterr().out


def test_the_sweep_is_a_table_a_file_and_a_picture(capsys, monkeypatch, tmp_path, model, text):
    monkeypatch.setattr(common.console, "_width", 80)
    out = tmp_path / "out"
    assert main(["eval", "--model", str(model), "--text", str(text), "--sweep", "--windows", "2", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    answer = json.loads((out / "eval.json").read_text())
    assert [row["name"] for row in answer["rows"]] == list(SWEEP)
    first = answer["rows"][0]
    assert (first["name"], first["weights"], first["ratio"], first["bits_per_weight"]) == ("FP32", None, 1, 32)
    assert answer["bits_per_byte"] == answer["unquantized"] == first["bits_per_byte"]
    by_name = {row["name"]: row for row in answer["rows"]}
    row = by_name["W8A8 KV4"]
    assert (row["weights"], row["activations"], row["kv"]) == ("int8", "int8", "int4-asym-g128")
    assert row["ratio"] == row["bits_per_byte"] / first["bits_per_byte"]
    assert len({row["bits_per_byte"] for row in answer["rows"]}) == len(SWEEP)
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines() if " %" in line) <= 80
    for name in SWEEP:
        assert name in shown
    svg = ET.fromstring((out / "eval.svg").read_text())
    texts = [element.text or "" for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "bits per byte" in texts
    for name in SWEEP:
        assert any(label.startswith(f"{name} (") for label in texts)


def test_people_see_what_it_cost(capsys, model, text):
    assert main(["eval", "--model", str(model), "--text", str(text), "--weights", "int3", "--windows", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"bits per byte: \d+\.\d{4} \([+-]\d+\.\d\d % of \d+\.\d{4} unquantized\)", shown)
    assert "weights int3; 4.446 stored bits of a weight" in shown      # 3, padding of rows of 20, and a scale a row
    assert "2 windows of 16 tokens, 24 predictions" in shown


@pytest.mark.parametrize(("arguments", "text"), [
    (["--weights", "int4-h32"], r"format must be a name that `heddle formats` lists.*, not 'int4-h32'"),
    (["--activations", "dfloat11"],
     r"QuantizationPlan\.activations must be a format that quantizes a token by itself, not 'dfloat11', which is fitted to a .*"),
    (["--kv", "float8_s0e4m4"], r"QuantizationPlan\.keys must be a format with negative values, not 'float8_s0e4m4'"),
    (["--sweep", "--kv", "int8"], r"--sweep must go without --kv: it has its own formats"),
    (["--context", "17"], r"--context must be between 2 and the model's 16, not 17"),
    (["--context", "1"], r"--context must be between 2 and the model's 16, not 1"),
    (["--text", "short.txt"], r"short\.txt: the text must have at least 17 tokens, a window of 16 and the one after it, not 6"),
    (["--text", "nothing"], r"--text must be a file, not 'nothing'"),
    (["--model", "nothing"], r"MODEL must be a folder with config\.json, not 'nothing'"),
    (["-o", "short.txt"], r"-o must be a folder, not the file 'short\.txt'"),
    (["-o", "short.txt/results"], r"-o must be a folder that can be written, not 'short\.txt/results': .*"),
    (["--model", "q", "--weights", "int8"], r"q must hold weights as floats for --weights or --head, but they are quantized"),
    (["--model", "q", "--sweep"], r"q must hold weights as floats for --sweep, but they are quantized"),
    (["--model", "nan"], r"weights must be finite float32, not nan: model\.layers\.1\.mlp\.up_proj\.weight, row 2, column 3"),
])
def test_bad_input_is_one_clear_line_before_any_work(capsys, monkeypatch, tmp_path, model, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("short")
    if "q" in arguments:
        assert main(["quantize", "model", "--format", "int8", "-o", "q"]) == 0
    if "nan" in arguments:
        tensors = random_tensors(FIELDS)
        tensors["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
        write_llama(tmp_path / "nan", tensors)
    monkeypatch.setattr("flows.commands.eval.evaluate", lambda *arguments: pytest.fail("work was begun"))
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["eval", *([] if "--model" in arguments else ["--model", "model"]), *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"heddle: {text}\n", said.err), said.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("count", ["0", "-3", "some"])
def test_windows_are_counted_or_all(capsys, model, count):
    with pytest.raises(SystemExit):
        main(["eval", "--model", str(model), "--windows", count])
    assert f"must be a positive integer or 'all', not '{count}'" in capsys.readouterr().err


def test_progress_on_a_terminal_goes_away(tmp_path, model, text):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", "eval", "--model", str(model), "--text", str(text), "--weights", "int8"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=slave, text=True,
                          check=False)
    os.close(slave)
    seen = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.returncode == 0, seen
    assert "bits per byte" in done.stdout
    assert "100%" in seen
