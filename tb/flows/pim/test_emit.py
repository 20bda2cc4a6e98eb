"""`heddle emit pim-…`: what it writes, that linters find nothing, what it refuses."""

import hashlib
import json
import subprocess
import sys

import pytest

from flows.cli import main
from flows.pim.emit import PIM_TOP, emit_pim, pim_sources
from hw.pim.presets import PIM_PRESETS

SMALL = ["--set", "lanes=16", "--set", "sm_lanes=4", "--set", "dcs=true"]


def test_files_and_lint(capsys, tmp_path):
    assert main(["emit", "pim-tiny", "-o", str(tmp_path), "--json", "--lint", *SMALL]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["lint"]["verilator"] == []
    assert answer["top"] == PIM_TOP
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["digest"] == answer["digest"] != PIM_PRESETS["pim-tiny"].digest()
    assert manifest["config"]["sm_lanes"] == 4
    assert {port["name"] for port in manifest["ports"]} >= {"clk", "rst", "go", "host_in__payload", "dram__rdata"}
    assert manifest["files"].keys() == {"top.v", "config.json"}
    assert all(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest for name, digest in manifest["files"].items())
    assert f"module {PIM_TOP}(" in (tmp_path / "top.v").read_text()


def test_a_table_for_people_and_files_that_were_changed(capsys, tmp_path, monkeypatch):
    from flows.lint import LintReport

    assert main(["emit", "pim-tiny", "-o", str(tmp_path), *SMALL]) == 0
    assert f"pim-tiny: module {PIM_TOP}" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "old.v").write_text("mine\n")
    manifest["files"]["old.v"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("flows.lint.lint", lambda emission: LintReport(warnings={"verilator": ("%Warning-SELRANGE: top.v:1",)}))
    assert main(["emit", "pim-tiny", "-o", str(tmp_path), "--lint", *SMALL]) == 1
    said = capsys.readouterr()
    assert "%Warning-SELRANGE: top.v:1" in said.out
    assert said.err.endswith("old.v: of an earlier emission, but changed since, so it stays\n")
    assert (tmp_path / "old.v").exists()


@pytest.mark.parametrize(("arguments", "text"), [
    (["--reset", "async"], "--reset must be left out for a PIM, which has none, not given with 'pim-tiny'"),
    (["--flows"], "--flows must be left out for a PIM, which has none, not given with 'pim-tiny'"),
    (["--macro-bits", "64"], "--macro-bits must be left out for a PIM, which has none, not given with 'pim-tiny'"),
    (["--set", "lanes"], "--set must be KEY=VALUE, not 'lanes'"),
    (["--set", "lanes=x"], "--set lanes must be an integer, not 'x'"),
    (["--set", "dcs=1"], "--set dcs must be true or false, not '1'"),
    (["--set", "lanes=24"], "PimConfig.lanes must be a divisor of the 32 weights of a burst, at least 16, not 24"),
])
def test_impossible_options_are_one_clear_line(capsys, tmp_path, arguments, text):
    assert main(["emit", "pim-tiny", "-o", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


def test_an_unknown_field_is_named(capsys, tmp_path):
    assert main(["emit", "pim-tiny", "-o", str(tmp_path), "--set", "rows=2"]) == 2
    assert capsys.readouterr().err.startswith("heddle: --set must name one of acc, bundles, burst_bytes, ")


def test_every_source_of_a_logic_die_is_in_the_key():
    text = "import sys, hw.pim.core; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'hw'))"
    used = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split()
    assert {*used} <= {str(file) for file in pim_sources()}


def test_the_same_config_gives_the_same_bytes():
    config = PIM_PRESETS["pim-tiny"]
    assert emit_pim(config).verilog == emit_pim(config).verilog
