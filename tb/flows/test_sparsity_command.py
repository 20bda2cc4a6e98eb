"""`heddle sparsity` as a user types it."""

import json
import xml.etree.ElementTree as ET

import pytest

import flows.sparsity
from flows.cli import main
from flows.commands import common
from flows.sparsity import FORMATS, points, tasder_point, texts
from hw.formats import format_named
from hw.presets import preset_named
from sw.evaluate import evaluate
from sw.kernels.transformer.weight_plan import LINEAR_PARTS, LINEARS, WeightPlan
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.sensitivity import linear_matrices
from sw.sparsity.patterns import density
from sw.sparsity.pruning import prune
from sw.sparsity.tasder import engine_series
from tb.sw.llamas import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture(autouse=True)
def small_text(monkeypatch):
    """Files of a few hundred bytes instead of Python's library."""
    files = {name: b"def %d(x):\n    return x + 1\n" % number * 8 for number, name in enumerate("abcdef")}
    monkeypatch.setattr("flows.sparsity.documents", lambda: (files, dict(list(files.items())[:2])))


def answer_of(capsys, *arguments):
    assert main(["sparsity", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_are_what_evaluation_says(capsys, model):
    answer = answer_of(capsys, "--model", model, "--weights", "2:4", "--weights", "tasd-2:8+1:8", "--windows", "3",
                       "--calibration", "2")
    assert [(row["name"], row["method"]) for row in answer["rows"]] == [
        ("float32", "magnitude"), ("2:4", "magnitude"), ("2:4", "compensated"), ("tasd-2:8+1:8", "magnitude")]
    assert [row["density"] for row in answer["rows"]] == [1, .5, .5, .375]
    loaded = LlamaModel(model)
    windows, calibration = texts(loaded, 3, 2)
    plan = QuantizationPlan.named(weights="2:4")
    exact, plain, better, _ = answer["rows"]
    assert exact["bits_per_byte"] == evaluate(loaded.checkpoint, QuantizationPlan(), windows).bits
    assert plain["bits_per_byte"] == evaluate(loaded.checkpoint, plan, windows).bits
    matrices = prune(loaded.checkpoint, format_named("2:4"), "compensated", calibration.tokens[:, :-1])
    assert better["bits_per_byte"] == evaluate(loaded.checkpoint, plan, windows, instead=matrices).bits
    assert plain["quality"] == exact["bits_per_byte"] / plain["bits_per_byte"]
    assert (answer["windows"], answer["calibration"], answer["context"]) == (3, 2, 16)


def test_the_text_to_decide_by_is_not_held_out(model, monkeypatch):
    monkeypatch.setattr("flows.sparsity.documents", lambda: ({"a": b"a" * 50, "b": b"b" * 50}, {"c": b"c" * 50}))
    windows, calibration = texts(LlamaModel(model), 9, 9)
    assert set(windows.tokens.ravel().tolist()) == {0, ord("c")}
    assert set(calibration.tokens.ravel().tolist()) == {0, ord("a")}        # one file in twenty


def test_all_formats_are_from_dense_to_sparse_and_drawn(capsys, monkeypatch, tmp_path, model):
    monkeypatch.setattr(common.console, "_width", 80)
    assert main(["sparsity", "--model", str(model), "--windows", "1", "--calibration", "1", "--method", "magnitude",
                 "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    answer = json.loads((tmp_path / "out" / "sparsity.json").read_text())
    assert [row["name"] for row in answer["rows"]] == ["float32", *FORMATS]
    patterns = [density(format_named(name)) for name in FORMATS if not name.startswith(("tasd", "sdq"))]
    assert patterns == sorted(patterns, reverse=True)
    assert len(set(patterns)) == 12
    assert "…" not in shown
    for name in FORMATS:
        assert name in shown
    svg = ET.fromstring((tmp_path / "out" / "sparsity.svg").read_text())
    texts_ = [element.text or "" for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"bits per byte", "density of the weights", "dense", "patterns, magnitude", "series", "int8 outliers, FP4 inliers",
            "0.25", "0.5"} <= set(texts_)
    tips = [element.text or "" for element in svg.iter("{http://www.w3.org/2000/svg}title")]
    for row in answer["rows"]:
        assert any(tip.startswith(f"{row['name']}, ") and f": {row['density']:.4g}, {row['bits_per_byte']:.4g}" in tip
                   for tip in tips)


def test_tasder(capsys, model):
    answer = answer_of(capsys, "--model", model, "--weights", "int8", "--tasder", "0.9", "--windows", "2", "--calibration", "2")
    row = answer["rows"][-1]
    loaded = LlamaModel(model)
    windows, calibration = texts(loaded, 2, 2)
    assert (row["name"], len(row["series"])) == ("TASDER 0.9", 14)
    matrices = {(int(key.split(".")[0]), key.split(".")[1]): format_named(name) for key, name in row["series"].items()}
    plan = QuantizationPlan(matrices=matrices)
    assert row["bits_per_byte"] == evaluate(loaded.checkpoint, plan, windows).bits
    exact = evaluate(loaded.checkpoint, QuantizationPlan(), calibration).bits
    assert exact / evaluate(loaded.checkpoint, plan, calibration).bits >= 0.9
    sizes = {key: getattr(loaded.checkpoint.layer(key[0]), key[1]).size for key in matrices}
    multiplied = sum(density(matrices[key]) * size for key, size in sizes.items())
    assert row["density"] == pytest.approx(multiplied / sum(sizes.values()))
    assert main(["sparsity", "--model", str(model), "--weights", "int8", "--tasder", "0.9", "--windows", "2",
                 "--calibration", "2"]) == 0
    assert "TASDER 0.9: " in capsys.readouterr().out


def test_a_plan_that_the_engine_runs(capsys, tmp_path, model):
    """For each linear what takes the engine the least time, of its formats; the golden device takes the plan."""
    answer = answer_of(capsys, "--model", model, "--weights", "int8", "--tasder", "0.9", "--windows", "2", "--calibration", "2",
                       "--preset", "hss-8x8", "-o", tmp_path)
    row = answer["rows"][-1]
    config, loaded = preset_named("hss-8x8"), LlamaModel(model)
    series = engine_series(config)
    assert list(series.values()) == sorted(series.values())
    plan = WeightPlan.read(str(tmp_path / "plan-0.9.json"), loaded.config.layers)
    assert {f"{layer}.{linear}": getattr(formats, linear) or "int8" for layer, formats in enumerate(plan.layers)
            for linear in LINEARS} == row["series"]
    matrices = {(int(name.split(".")[0]), part): format_named(weights) for name, weights in row["series"].items()
                for part in LINEAR_PARTS[name.split(".")[1]]}
    windows, calibration = texts(loaded, 2, 2)
    found = [evaluate(loaded.checkpoint, QuantizationPlan(matrices=matrices), text).bits for text in (windows, calibration)]
    exact = evaluate(loaded.checkpoint, QuantizationPlan(), calibration).bits
    assert found[0] == row["bits_per_byte"]
    assert exact / found[1] >= 0.9
    sizes = {key: matrix.size for layer in range(loaded.config.layers)
             for key, matrix in ((f"{layer}.{name}", matrix) for name, matrix in linear_matrices(
                 loaded.checkpoint.layer(layer)).items())}
    time = sum(series[format_named(row["series"][key])] * size for key, size in sizes.items()) / sum(sizes.values())
    assert row["density"] == pytest.approx(time)
    assert main(["generate", "hss-8x8", "--model", str(model), "--prompt", "de", "--tokens", "2", "--device", "golden",
                 "--weights", str(tmp_path / "plan-0.9.json"), "--json"]) == 0
    assert main(["sparsity", "--model", str(model), "--weights", "int8", "--tasder", "0.9", "--windows", "2",
                 "--calibration", "2", "--preset", "hss-8x8", "-o", str(tmp_path)]) == 0
    assert "sparsity.json, sparsity.svg, plan-0.9.json" in capsys.readouterr().out


def test_a_quality_out_of_reach_loses_nothing_else(capsys, monkeypatch, tmp_path, model):
    """What was measured is shown and written, the plan of the other quality too; the command fails and says why."""
    chosen = flows.sparsity.choose
    monkeypatch.setattr("flows.sparsity.choose", lambda scores, found, quality, *more: chosen(
        scores, found if quality == 0.9 else lambda formats: 0.5, quality, *more))
    assert main(["sparsity", "--model", str(model), "--weights", "int8", "--tasder", "0.99999999", "--tasder", "0.9",
                 "--windows", "1", "--calibration", "2", "--preset", "hss-8x8", "--set",
                 "scratchpad_bytes=65536", "-o", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "1 window of 16 tokens" in shown.out
    assert "sparsity.json, sparsity.svg, plan-0.9.json\n" in shown.out
    assert shown.err.startswith("heddle: --tasder 0.99999999: ")
    assert [row["name"] for row in json.loads((tmp_path / "sparsity.json").read_text())["rows"]] == [
        "float32", "int8", "TASDER 0.9, planned"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan-0.9.json", "sparsity.json", "sparsity.svg"]


def test_a_pruned_model_is_a_model_and_obeys_its_pattern(capsys, tmp_path, model):
    command = ["sparsity", "--model", str(model), "--weights", "2:4", "--method", "compensated", "--windows", "2",
               "--calibration", "2", "--save", str(tmp_path / "pruned")]
    answer = answer_of(capsys, *command[1:])
    saved = LlamaModel(tmp_path / "pruned")
    windows, calibration = texts(saved, 2, 2)
    plan = QuantizationPlan.named(weights="2:4")
    assert evaluate(saved.checkpoint, plan, windows).bits == answer["rows"][1]["bits_per_byte"]
    matrices = prune(LlamaModel(model).checkpoint, format_named("2:4"), "compensated", calibration.tokens[:, :-1])
    for (layer, part), matrix in matrices.items():
        assert (getattr(saved.checkpoint.layer(layer), part) == matrix).all()
    stored = LlamaModel(model).checkpoint
    assert (saved.checkpoint.weights().head == stored.weights().head).all()
    assert (saved.checkpoint.layer(1).mlp_norm == stored.layer(1).mlp_norm).all()
    note = json.loads((tmp_path / "pruned" / "config.json").read_text())["quantization"]
    assert note == {"tool": "heddle", "pruned": "2:4", "method": "compensated"}
    quantize = ["quantize", str(tmp_path / "pruned"), "--format", "2:4", "--pruned", "--skip", "lm_head*", "-o"]
    assert main([*quantize, str(tmp_path / "q")]) == 0
    assert main(["quantize", str(model), *quantize[2:], str(tmp_path / "no")]) == 2
    capsys.readouterr()
    assert main(command) == 2                                   # a model is never replaced
    assert capsys.readouterr().err.startswith("heddle: OUT must not exist yet")


@pytest.mark.parametrize("more", [[], ["--weights", "2:4"], ["--weights", "2:4", "--weights", "1:4", "--method", "magnitude"],
                                  ["--weights", "int8", "--method", "magnitude"],
                                  ["--weights", "2:4", "--method", "magnitude", "--method", "compensated"]])
def test_one_model_is_saved_at_a_time(capsys, tmp_path, model, more):
    assert main(["sparsity", "--model", str(model), "--save", str(tmp_path / "pruned"), *more]) == 2
    assert capsys.readouterr().err == "heddle: --save must go with one --weights, a pattern such as 2:4, and one --method\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "text"), [
    (["--weights", "2:3:4"], "format must be a name that `heddle formats` lists"),
    (["--preset", "hss-8x8"], "--preset must go with --tasder Q and -o DIR: it says from what to choose, for a plan\n"),
    (["--tasder", "0.9", "--preset", "hss-8x8"], "--preset must go with --tasder Q and -o DIR: "),
    (["--tasder", "0.9", "--preset", "systolic-4x4", "-o", "plans"],
     "AcceleratorConfig.engine must be 'hss' or 'stc' for a choice of series, not 'systolic'\n"),
    (["--tasder", "0.9", "--set", "rows=8", "-o", "plans"], "give either a PRESET or --config FILE\n"),
    (["--tasder", "0.9", "--preset", "hss-8x8", "--set", "rows=x", "-o", "plans"], "--set rows must be an integer, not 'x'\n"),
    (["--tasder", "1.5"], "--tasder must be between 0 and 1, not 1.5\n"),
    (["-o", "file"], "-o must be a folder, not the file"),
    (["--model", "nothing"], "MODEL must be a folder with config.json, not 'nothing'"),
    (["--model", "q"], "q must hold weights as floats, but they are quantized\n"),
])
def test_bad_input_is_one_line_before_any_work(capsys, monkeypatch, tmp_path, model, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    if "q" in arguments:
        assert main(["quantize", str(model), "--format", "int8", "-o", "q"]) == 0
    monkeypatch.setattr("flows.sparsity.evaluate", lambda *arguments, **more: pytest.fail("work was begun"))
    capsys.readouterr()
    assert main(["sparsity", *([] if "--model" in arguments else ["--model", str(model)]), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"heddle: {text}")


@pytest.mark.parametrize(("call", "text"), [
    (lambda checkpoint: list(points(checkpoint, ["2:4"], ["luck"], None, None)),
     r"method must be one of magnitude, activations, compensated, not 'luck'"),
    (lambda checkpoint: tasder_point(checkpoint, 0, None, None), r"a quality must be between 0 and 1, not 0"),
])
def test_what_python_may_not_ask_for(model, call, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call(LlamaModel(model).checkpoint)


def test_a_quality_that_int8_does_not_reach(model, monkeypatch):
    monkeypatch.setattr("flows.sparsity.SERIES", (format_named("tasd-1:8"),))
    loaded = LlamaModel(model)
    windows, calibration = texts(loaded, 1, 1)
    with pytest.raises(ValueError, match=r"^the quality must be at least 0\.9999 with tasd-1:8 everywhere, not 0\.\d+$"):
        tasder_point(loaded.checkpoint, 0.9999, windows, calibration)
