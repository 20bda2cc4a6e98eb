"""Builds: what changes the key, what the compile step reports, and that nothing half-made is used."""

import re
from pathlib import Path

import pytest

import flows.verilated
from flows.build import build_native
from flows.toolchain import ToolError
from flows.verilated import Unit


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """A cache of its own, and Verilator and compiler replaced by something that only writes their output files."""
    commands = []

    def run(command, folder):
        commands.append(command)
        if "--cc" in command:
            (folder / "model").mkdir()
            for name in ("Vtop.cpp", "Vtop__Slow.cpp"):
                (folder / "model" / name).write_text("// model\n")
        if "-o" in command:
            (folder / command[command.index("-o") + 1]).write_text("")

    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path))
    monkeypatch.setattr(flows.verilated, "state_header", lambda folder: "")
    monkeypatch.setattr(flows.verilated, "_run", run)
    return commands


def build(**changes):
    return build_native(**{"verilog": "module heddle(); endmodule\n", "top": "heddle", "bus_width": 128, **changes})


def test_every_input_has_its_own_build(recorded, monkeypatch):
    found = {build().library}
    assert not build().fresh
    for changes in ({"verilog": "module heddle(); wire a; endmodule\n"}, {"bus_width": 64}, {"waves": ".vcd"},
                    {"label": "other"}):
        made = build(**changes)
        assert made.fresh, changes
        found.add(made.library)
    monkeypatch.setattr(flows.verilated, "_EVERY_CYCLE", ("-O3",))
    found.add(build().library)
    monkeypatch.setattr(flows.verilated, "versions", lambda: {"compiler": "another"})
    found.add(build().library)
    assert len(found) == 7


def test_an_edited_harness_is_built_anew(recorded, monkeypatch, tmp_path):
    import flows.build

    for name in ("harness.cpp", "memory.h"):
        (tmp_path / name).write_text("// one\n")
    monkeypatch.setattr(flows.build, "_NATIVE", tmp_path)
    assert build().fresh
    assert not build().fresh
    (tmp_path / "memory.h").write_text("// two\n")
    assert build().fresh


def test_the_runtime_library_is_compiled_once(recorded):
    for changes in ({}, {"verilog": "module heddle(); wire a; endmodule\n"}, {"waves": ".vcd"}):
        assert build(**changes).fresh
    compiled = [Path(part).name for command in recorded for part in command if part.endswith(".cpp") and "verilated" in part]
    assert sorted(compiled) == ["verilated.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp"]


def test_units_are_grouped_and_ordered_by_kind(tmp_path):
    (tmp_path / "model").mkdir()
    for name, size in (("a", 300_000), ("b", 300_000), ("c", 10), ("d__Slow", 100), ("e__Slow", 100)):
        (tmp_path / "model" / f"{name}.cpp").write_text("x" * size)
    units = flows.verilated._model_units(tmp_path, ("-Dx",))
    assert [(unit.source.name, unit.options) for unit in units] == [
        ("slow0.cpp", ("-Dx", "-O0")), ("fast0.cpp", ("-Dx", "-O2")), ("fast1.cpp", ("-Dx", "-O2"))]
    included = [re.findall(r'"(.*)"', (tmp_path / unit.source).read_text()) for unit in units]
    assert sorted(name for names in included for name in names) == ["a.cpp", "b.cpp", "c.cpp", "d__Slow.cpp", "e__Slow.cpp"]
    assert isinstance(units[0], Unit)


def test_verilog_that_verilator_refuses(monkeypatch, tmp_path):
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path))
    monkeypatch.setattr(flows.verilated, "_runtime", lambda waves, vpi: [])
    with pytest.raises(ToolError, match=r"^verilator_bin failed \(1\):\n%Error: top\.v:1:17: syntax error"):
        build(verilog="module heddle() nonsense endmodule\n")
    assert not list(tmp_path.glob("native-*"))


def test_unknown_waves_are_refused():
    with pytest.raises(ValueError, match=r"^the suffix of a wave file must be one of \.vcd, \.fst, not '\.ghw'$"):
        build(waves=".ghw")
