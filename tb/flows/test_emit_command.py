"""`heddle emit` with its options: what it writes, what it says, what it refuses."""

import json

import pytest

from flows.cli import main
from flows.emission.memories import MACRO_BITS
from flows.smoke import SMOKE_FILES
from hw.presets import PRESETS

PRESET = "systolic-4x4"


def test_options_reach_the_files(capsys, tmp_path):
    assert main(["emit", PRESET, "-o", str(tmp_path), "--reset", "async", "--memories", "macro", "--smoke", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["reset"], answer["memories"]) == ("async", "macro")
    assert {"top.v", "ram_models.v", "manifest.json", "component.xml", "registers.json", *SMOKE_FILES} <= {
        path.name for path in tmp_path.iterdir()}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["digest"] == PRESETS[PRESET].digest() == answer["digest"]           # no option is part of the config
    assert manifest["memory_macros"] == answer["memory_macros"] != []
    assert all((memory["style"] != "inferred") == (memory["bits"] >= MACRO_BITS)
               for memory in manifest["memories"] if memory["read_ports"] == 1 and "order" not in memory["path"])
    assert "posedge rst" in (tmp_path / "top.v").read_text()


def test_a_table_for_people(capsys, tmp_path):
    assert main(["emit", PRESET, "-o", str(tmp_path), "--lint"]) == 0
    out = capsys.readouterr().out
    assert "verilator: no warnings" in out
    assert "modules" in out


def test_warnings_make_the_command_fail(capsys, tmp_path, monkeypatch):
    from flows.lint import LintReport

    monkeypatch.setattr("flows.lint.lint", lambda emission: LintReport(warnings={"verilator": ("%Warning-SELRANGE: top.v:1",)}))
    assert main(["emit", PRESET, "-o", str(tmp_path), "--lint"]) == 1
    assert "%Warning-SELRANGE: top.v:1" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "text"), [
    (["--macro-bits", "0"], "heddle: EmitOptions.macro_bits must be a positive integer, not 0\n"),
])
def test_impossible_options_are_one_clear_line(capsys, tmp_path, arguments, text):
    assert main(["emit", PRESET, "-o", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err == text
