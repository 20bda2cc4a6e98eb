"""`heddle quantize` as a user types it."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from flows.cli import main
from flows.commands import common
from sw.formats import QuantizedTensor, dequantize, load, quantize
from tb.sw.checkpoints import MATRICES, small_tensors, write_folder
from tb.sw.test_gguf import mixed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path):
    return write_folder(tmp_path / "model", small_tensors())


def quantized(path):
    return {name: tensor for name, tensor in load(path).items() if isinstance(tensor, QuantizedTensor)}


def test_a_folder_becomes_a_folder_with_all_that_lies_beside_the_weights(capsys, tmp_path, model):
    out = tmp_path / "out"
    assert main(["quantize", str(model), "--format", "int4-g32", "-o", str(out)]) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "config.json", "extra/config.json", "model.safetensors", "tokenizer.json"]
    assert json.loads((out / "config.json").read_text()) == {
        "model_type": "small", "quantization": {"tool": "heddle", "formats": ["int4-g32"]}}
    assert (out / "extra" / "config.json").read_text() == "[1]"
    assert set(quantized(out / "model.safetensors")) == set(MATRICES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_file_becomes_a_file(capsys, tmp_path, model):
    out = tmp_path / "out.safetensors"
    assert main(["quantize", str(model / "model.safetensors"), "--format", "nvfp4", "-o", str(out)]) == 0
    assert set(quantized(out)) == set(MATRICES)
    assert "out.safetensors" in capsys.readouterr().out


def test_json_and_report_have_the_errors(capsys, tmp_path, model):
    report = tmp_path / "report.json"
    assert main(["quantize", str(model), "--format", "mxfp4-b32", "-o", str(tmp_path / "out"), "--skip", "*.q.*", "--json",
                 "--report", str(report)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == json.loads(report.read_text())
    tensors = small_tensors()
    assert [entry["name"] for entry in answer["tensors"]] == [name for name in MATRICES if ".q." not in name]
    signal = noise = weights = 0.0
    for entry in answer["tensors"]:
        values = tensors[entry["name"]].astype(np.float64)
        expected = quantize(tensors[entry["name"]], "mxfp4-b32")
        error = values - dequantize(expected)
        assert entry["sqnr_db"] == pytest.approx(10 * np.log10((values ** 2).sum() / (error ** 2).sum()))
        assert entry["max_abs_error"] == abs(error).max()
        assert entry["bits_per_weight"] == expected.bits_per_weight
        assert (entry["format"], entry["shape"]) == ("mxfp4-b32", list(values.shape))
        signal, noise, weights = signal + (values ** 2).sum(), noise + (error ** 2).sum(), weights + values.size
    assert answer["total"]["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise))
    assert answer["total"]["weights"] == weights
    assert len(answer["kept"]) == len(tensors) - 2
    assert all(entry["sqnr_db"] is None for entry in answer["kept"])
    assert answer["seconds"] > 0
    assert answer["peak_memory_bytes"] > 1 << 20
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert answer["bytes"] < size < answer["bytes"] + 8192


def test_a_tensor_without_error_has_no_ratio(capsys, tmp_path):
    save_file({"zero": np.zeros((4, 32), np.float32)}, tmp_path / "model.safetensors")
    assert main(["quantize", str(tmp_path / "model.safetensors"), "--format", "int8", "-o", str(tmp_path / "out"), "--json"]) == 0
    entry, = json.loads(capsys.readouterr().out)["tensors"]
    assert (entry["sqnr_db"], entry["max_abs_error"]) == (None, 0)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits(capsys, monkeypatch, tmp_path, width):
    monkeypatch.setattr(common.console, "_width", width)
    tensors = {f"encoder.layer.{i}.attention.self.query_proj.weight": np.eye(64, dtype=np.float32) + i for i in range(3)}
    model = write_folder(tmp_path / "model", tensors)
    assert main(["quantize", str(model), "--format", "bitmod4-g64", "-o", str(tmp_path / "out.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    text = [line for line in out.splitlines() if "out.safetensors" not in line and "peak memory" not in line]
    assert max(map(len, text)) <= width
    row = next(line for line in text if "layer.2" in line).split()
    assert row[:3] == ["encoder.layer.2.attention.self.query_proj", "64×64", "4.750"]
    assert any(line.split()[:2] == ["total", "12,288"] for line in text)


def test_gguf_without_a_format_shows_which_one_each_tensor_has(capsys, tmp_path):
    _, model = mixed(tmp_path / "m.gguf")
    assert main(["quantize", str(model), "-o", str(tmp_path / "out.safetensors")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "m.gguf in several formats" in out
    assert "token_embd int8-g32 24×96 8.500 – –" in out
    assert "kept: 5 tensors" in out
    assert "1 of them decoded to float32" in out


def test_force_replaces_its_own_files_and_no_others(tmp_path, model):
    out = tmp_path / "out"
    (out / "extra").mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "model.safetensors").write_text("old")
    (out / "extra" / "config.json").write_text("old")
    assert main(["quantize", str(model), "--format", "int8", "-o", str(out), "--force"]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "extra" / "config.json").read_text() == "[1]"
    assert set(quantized(out / "model.safetensors")) == set(MATRICES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_what_a_killed_run_left_is_gone_after_the_next_one(tmp_path, model):
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in ("out", "out.safetensors"):
        (tmp_path / f".{name}.{gone.pid}").mkdir() if name == "out" else (tmp_path / f".{name}.{gone.pid}").write_text("half")
        assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path / name)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out", "out.safetensors"]


def test_the_working_folder_is_not_replaced(capsys, monkeypatch, tmp_path, model):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert main(["quantize", str(model), "--format", "int8", "-o", ".", "--force"]) == 2
    assert capsys.readouterr().err == "heddle: OUT must not be the working folder, because it is replaced: '.'\n"
    assert not list((tmp_path / "out").iterdir())


def test_a_failure_leaves_no_folder(capsys, tmp_path):
    tensors = small_tensors()
    tensors[MATRICES[2]][0, 0] = np.nan
    model = write_folder(tmp_path / "model", tensors)
    assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path / "out")]) == 2
    assert f"{MATRICES[2]}, row 0, column 0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupt_leaves_no_folder(monkeypatch, tmp_path, model):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("sw.checkpoint.conversion.part_of", interrupted)
    assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path / "out")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_termination_is_as_an_interrupt(capsys, monkeypatch, tmp_path, model):
    monkeypatch.setattr("sw.checkpoint.conversion.part_of", lambda *arguments: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    for out in ("out", "out.safetensors"):
        assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path / out)]) == 130
        assert capsys.readouterr().err == "heddle: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("change", "text"), [
    ({"--format": "int4-h32"}, r"format must be a name that `heddle formats` lists.*, not 'int4-h32'"),
    ({"MODEL": "nothing"}, r"MODEL must be a safetensors file, a folder with one, or a GGUF file; there is no 'nothing'"),
    ({"MODEL": "model/config.json"}, r"model/config\.json must be a whole safetensors file: .*"),
    ({"-o": "model"}, r"OUT must not exist yet, unless --force is given: 'model'"),
    ({"-o": "model", "--force": None}, r"OUT must not be MODEL itself: 'model'"),
    ({"-o": "model/model.safetensors", "--force": None}, r"OUT must not be MODEL itself: 'model/model\.safetensors'"),
    ({"-o": "no/where"}, r"OUT must lie in a folder that exists, not 'no/where'"),
    ({"-o": "model/config.json", "--force": None},
     r"OUT must be a folder or end in \.safetensors, not the file 'model/config\.json'"),
    ({"-o": "odd.safetensors", "--force": None},
     r"OUT must not be a folder if it ends in \.safetensors, as 'odd\.safetensors' does"),
    ({"-o": "/", "--force": None}, r"OUT must be a folder or end in \.safetensors, not the file '/'"),
    ({"-o": "/dev/null", "--force": None}, r"OUT must be a folder or end in \.safetensors, not the file '/dev/null'"),
    ({"MODEL": "/dev/null"}, r"MODEL must be a safetensors file, .* or a GGUF file, not the device or pipe '/dev/null'"),
    ({"--report": "model"}, r"--report must be a file, not the folder 'model'"),
    ({"--report": "model/model.safetensors"},
     r"--report must be a file of its own, not 'model/model\.safetensors' of MODEL or OUT"),
    ({"-o": "out.safetensors", "--report": "out.safetensors"},
     r"--report must be a file of its own, not 'out\.safetensors' of MODEL or OUT"),
    ({"--report": "no/where.json"}, r"--report must lie in a folder that exists, not 'no/where\.json'"),
    ({"--only": "*.lm_head.*"}, r"a glob must match the name of a tensor; '\*\.lm_head\.\*' matches none"),
    ({"--skip": "*"}, r"MODEL has no matrix of floats that is to be quantized"),
    ({"--format": None}, r"MODEL has no tensor in blocks of GGUF that could be taken: give a format"),
])
def test_bad_input_is_one_clear_line_and_changes_nothing(capsys, monkeypatch, tmp_path, model, change, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.safetensors").mkdir()
    wanted = {"MODEL": "model", "--format": "int4-g32", "-o": "out", **change}
    if wanted["--format"] is None:
        del wanted["--format"]
    arguments = [part for option, value in wanted.items() if option != "MODEL" for part in (option, value) if part is not None]
    before = sorted(tmp_path.rglob("*"))
    assert main(["quantize", wanted["MODEL"], *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"heddle: {text}\n", said.err), said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_inside_the_model_is_no_companion_of_it(tmp_path, model):
    for _ in range(2):
        assert main(["quantize", str(model), "--format", "int8", "-o", str(model / "int8"), "--force"]) == 0
    assert not (model / "int8" / "int8").exists()
    assert (model / "int8" / "extra" / "config.json").is_file()
    assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "tokenizer.json").is_file()


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(capsys, monkeypatch, tmp_path, model):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    assert main(["quantize", str(model), "--format", "int8", "-o", str(tmp_path / "out")]) == 2
    assert re.fullmatch(r"heddle: OUT needs about [\d,]+ bytes, but '.*' has 1,000 free\n", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_progress_on_a_terminal_names_the_tensor_and_goes_away(tmp_path, model):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", "quantize", str(model), "--format", "int4-g32", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=slave, text=True,
                          check=False)
    os.close(slave)
    seen = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.returncode == 0, seen
    assert "total" in done.stdout
    assert "100%" in seen
