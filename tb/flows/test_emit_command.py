"""`heddle emit` with its options: what it writes, what it says, what it refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from flows.cli import main
from flows.emission.memories import MACRO_BITS
from flows.smoke import SMOKE_FILES
from hw.presets import PRESETS

PRESET = "systolic-4x4"


def test_options_reach_the_files(capsys, tmp_path):
    assert main(["emit", PRESET, "-o", str(tmp_path), "--reset", "async", "--memories", "macro", "--bench", "--json"]) == 0
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


def test_the_smoke_bench_is_run(capsys, tmp_path, monkeypatch):
    """Here without Icarus, which not everybody has."""
    honest = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "iverilog" else honest(name, *rest))
    assert main(["emit", PRESET, "-o", str(tmp_path), "--smoke", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["smoke_passed"]
    assert answer["smoke"].keys() == {"verilator"}
    assert answer["smoke"]["verilator"].startswith("PASS: ")
    assert {path.name for path in tmp_path.iterdir()} == {Path(name).name for name in answer["files"]}     # no litter


@pytest.mark.full
def test_the_smoke_bench_is_run_in_icarus_too(capsys, tmp_path):
    assert main(["emit", PRESET, "-o", str(tmp_path), "--smoke"]) == 0
    out = capsys.readouterr().out
    assert "smoke bench in verilator: PASS: " in out
    assert "smoke bench in icarus: PASS: " in out


def test_a_smoke_bench_that_fails_makes_the_command_fail(capsys, tmp_path, monkeypatch):
    from flows.smoke import SmokeResult

    result = SmokeResult(passed=False, line="FAIL: beat 3 is 0, not 1", simulator="verilator")
    monkeypatch.setattr("flows.smoke.run_smokes", lambda emission, folder: (result,))
    assert main(["emit", PRESET, "-o", str(tmp_path), "--smoke"]) == 1
    assert "smoke bench in verilator: FAIL: beat 3 is 0, not 1\n" in capsys.readouterr().out


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_an_earlier_emission_left_goes_and_what_others_put_there_stays(capsys, tmp_path):
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    assert main(["emit", PRESET, "-o", str(fresh)]) == 0
    assert main(["emit", PRESET, "-o", str(used), "--memories", "macro", "--flows"]) == 0
    assert {"ram_models.v", "heddle.core", *SMOKE_FILES} <= names(used)
    for name in ("notes.txt", "smoke_extra.v"):
        (used / name).write_text("mine\n")
    (used / "heddle.sdc").write_text("create_clock -period 3 [get_ports clk]\n")
    capsys.readouterr()
    assert main(["emit", PRESET, "-o", str(used)]) == 0
    assert names(used) == names(fresh) | {"notes.txt", "smoke_extra.v", "heddle.sdc"}
    assert all((used / name).read_bytes() == (fresh / name).read_bytes() for name in names(fresh))
    said = capsys.readouterr().err
    assert said == f"{used}/heddle.sdc: no part of this emission, but changed since an earlier one wrote it, so it stays\n"


def test_a_second_emission_with_all_files_has_all_files(capsys, tmp_path):
    for _ in range(2):
        assert main(["emit", PRESET, "-o", str(tmp_path), "--flows", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert names(tmp_path) == {Path(name).name for name in answer["files"]}
        listed = json.loads((tmp_path / "manifest.json").read_text())["files"]
        assert listed.keys() == names(tmp_path) - {"manifest.json"}
        assert all(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest for name, digest in listed.items())


@pytest.mark.parametrize("text", ["[]", "{", '{"files": ["top.v"]}', '{"files": {"../outside": "%s"}}'])
def test_a_manifest_that_is_not_ours_removes_nothing(text, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    (folder / "other.v").write_text("mine\n")
    (folder / "manifest.json").write_text(text.replace("%s", hashlib.sha256(b"mine\n").hexdigest()))
    assert main(["emit", PRESET, "-o", str(folder)]) == 0
    assert outside.exists()
    assert (folder / "other.v").exists()


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
