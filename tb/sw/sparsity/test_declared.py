"""`heddle quantize --pruned`: checkpoints that are said to obey a pattern."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from flows.cli import main
from hw.formats import format_named
from sw.checkpoint import matrix
from sw.formats import dequantize, load
from sw.sparsity.patterns import pruned
from tb.formats.structure import wide


def thin(rows, columns, seed, name="2:4"):
    return pruned(format_named(name), wide(rows, columns, seed=seed))


def write(path, **tensors):
    save_file({"norm.weight": np.ones(5, np.float32), **tensors}, path)
    return str(path)


def test_a_pruned_checkpoint_is_quantized_and_loses_no_place(tmp_path, capsys):
    tensors = {"a.weight": thin(7, 30, 1), "b.weight": thin(40, 16, 2)}
    model = write(tmp_path / "m.safetensors", **tensors)
    assert main(["quantize", model, "--format", "2:4", "--pruned", "-o", str(tmp_path / "q.safetensors")]) == 0
    found = load(tmp_path / "q.safetensors")
    for name, values in tensors.items():
        got = dequantize(found[name])
        assert not got[values == 0].any()
        assert np.abs(got - values).max() <= np.abs(values).max() / 254 * 1.001


def test_what_breaks_the_pattern_is_named_before_anything_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(matrix, "CHUNK", 64)                # rows come in parts, and keep their numbers
    bad = thin(40, 16, 2)
    bad[33, 8:12] = 1
    model = write(tmp_path / "m.safetensors", **{"a.weight": thin(7, 30, 1), "b.weight": bad})
    assert main(["quantize", model, "--format", "2:4", "--pruned", "-o", str(tmp_path / "q.safetensors")]) == 2
    assert capsys.readouterr().err == (
        "heddle: b.weight: at most 2 of 4 values must be other than zero for 2:4, not 4 (row 33, block 0, group 2)\n")
    assert not (tmp_path / "q.safetensors").exists()
    assert main(["quantize", model, "--format", "2:4", "-o", str(tmp_path / "q.safetensors")]) == 0


def test_the_reduction_axis_is_the_one_that_is_asked_for(tmp_path, capsys):
    model = write(tmp_path / "m.safetensors", **{"a.weight": np.ascontiguousarray(thin(8, 32, 3, "hss-4:6-2:4").T)})
    command = ["quantize", model, "--format", "hss-4:6-2:4", "--pruned", "-o", str(tmp_path / "q.safetensors")]
    assert main([*command, "--axis", "0"]) == 0
    assert main([*command, "--force"]) == 2
    assert "heddle: a.weight: at most 2 of 4 values must be other than zero" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["int8", "hss-4:4-2:2"])
def test_a_format_without_a_pattern(tmp_path, capsys, name):
    model = write(tmp_path / "m.safetensors", **{"a.weight": thin(7, 30, 1)})
    assert main(["quantize", model, "--format", name, "--pruned", "-o", str(tmp_path / "q.safetensors")]) == 2
    assert capsys.readouterr().err == f"heddle: --pruned must go with a sparse --format, not '{name}'\n"
