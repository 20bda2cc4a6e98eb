"""What holds for every command: help, unknown options, interrupts, configs that cannot be, closed output, JSON alone."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import COMMANDS, main

importlib.import_module("flows.commands.common")        # a console keeps the COLUMNS of when it was made, which a test below sets
ROOT = Path(__file__).resolve().parents[2]
LEAST = {
    "list": (), "emit": ("systolic-4x4", "-o", "out"), "run": ("systolic-4x4", "--gemm", "4,4,4"),
    "diagram": ("systolic-4x4", "-o", "out.svg"), "trace": ("systolic-4x4", "--gemm", "4,4,4"),
    "synth": ("systolic-4x4", "--target", "asic"), "report": ("systolic-4x4",), "replay": ("case",), "formats": (),
    "inject": ("systolic-4x4", "--gemm", "4,4,4"),
    "harden": ("systolic-4x4", "--gemm", "4,4,4"), "quantize": ("model", "--format", "int8", "-o", "out"),
    "eval": ("--model", "model"), "reproduce": ("sparseloop",),
    "sparsity": ("--model", "model"),
    "plan": ("systolic-4x4", "--model", "model", "--weights", "int8", "-o", "plan.json"),
    "generate": ("systolic-4x4", "--model", "model", "--prompt", "a", "--tokens", "1"), "embed": ("systolic-4x4", "--text", "a"),
}
"""Arguments without which a command is refused."""
OF_A_CONFIG = [name for name in COMMANDS if LEAST[name][:1] == ("systolic-4x4",)]
QUICK = [("list",), ("formats",), ("run", "systolic-4x4", "--gemm", "4,4,4", "--device", "golden")]

INTERRUPTED = """\
import sys
from amaranth import Module
from amaranth.hdl import Fragment
import flows.emit
from flows.cli import main

def cut(*arguments, **options):
    Fragment.get(Module(), None)        # Amaranth warns from then on
    part, kept = Module(), [Module()]
    kept.append(kept)
    raise KeyboardInterrupt

flows.emit.cut = cut
sys.exit(main(["emit", "systolic-4x4", "-o", "out"]))
"""


def test_every_command_is_here():
    assert set(LEAST) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_every_option_does(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as status:
        main([name, "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    options = [line.strip() for line in text.split("options:")[1].splitlines() if line.startswith("  -")]
    lines = text.splitlines()
    for option in options:
        where = next(index for index, line in enumerate(lines) if line.strip() == option)
        assert "  " in option or lines[where + 1].startswith(" " * 8), f"{option!r} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_there_is_not(name, capsys):
    with pytest.raises(SystemExit) as status:
        main([name, *LEAST[name], "--no-such-option"])
    assert status.value.code == 2
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_is_one_line(name, capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(f"flows.commands.{name}"), "run", interrupted)
    assert main([name, *LEAST[name]]) == 130
    assert capsys.readouterr().err == "heddle: interrupted\n"


def test_an_interrupt_while_hardware_is_built_is_one_line(tmp_path):
    """In a process of its own, since parts that nobody used are dropped after the answer, some of them at exit."""
    probe = tmp_path / "probe.py"
    probe.write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, str(probe)], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "HEDDLE_CACHE": str(tmp_path / "cache")})
    assert (done.returncode, done.stderr) == (130, "heddle: interrupted\n")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["locks"]


@pytest.mark.parametrize("name", OF_A_CONFIG)
@pytest.mark.parametrize(("wrong", "said"), [
    (("--config", "no-such-file"), "give either a PRESET or --config FILE"),
    (("--set", "rows"), "--set must be KEY=VALUE, not 'rows'"),
    (("--set", "rowz=4"), "--set must name one of "),
    (("--set", "bus_width=100"), "AcceleratorConfig.bus_width must be 64, 128, 256 or 512, not 100"),
])
def test_a_config_that_cannot_be(name, wrong, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([name, *LEAST[name], *wrong]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"heddle: {said}")
    assert told.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OF_A_CONFIG)
def test_a_config_file_that_there_is_not(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([name, *LEAST[name][1:], "--config", "no-such-file"]) == 2
    assert capsys.readouterr().err.startswith("heddle: --config must be a readable file, not 'no-such-file'")


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_output_that_somebody_closes(form):
    command = [sys.executable, "-m", "flows.cli", "formats", *form]
    closed, write = os.pipe()
    os.close(closed)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", QUICK, ids=lambda words: words[0])
def test_one_object_and_nothing_else(arguments, capfd):
    assert main([*arguments, "--json"]) == 0
    told = capfd.readouterr()
    assert isinstance(json.loads(told.out), dict)
    assert told.err == ""
