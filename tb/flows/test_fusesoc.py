"""Project files for FuseSoC, LibreLane, SiliconCompiler: every file that they name is there; the generator makes a core."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.cli import main
from flows.emit import Emission, EmitOptions, emit
from flows.lint import ALLOWED
from flows.packages import CLOCK_NS, PACKAGE_FILES, fusesoc_core, librelane_config, write_packages
from flows.smoke import write_smoke
from hw.presets import PRESETS

PRESET = "systolic-4x4"
ROOT = Path(__file__).resolve().parents[2]
CORES = ROOT / "flows" / "cores"


@pytest.fixture(scope="module", params=[EmitOptions(), EmitOptions(reset="async", memories="macro")], ids=["fpga", "asic"])
def emission(request, tmp_path_factory) -> Emission:
    emission = emit(PRESETS[PRESET], tmp_path_factory.mktemp("emission"), request.param)
    write_smoke(emission, emission.folder)
    assert write_packages(emission, emission.folder) == PACKAGE_FILES
    return emission


def core_of(text: str) -> dict:
    assert text.startswith("CAPI=2:\n")
    return yaml.safe_load(text)


def test_the_core_names_files_that_exist_and_targets_that_use_them(emission):
    core = core_of((emission.folder / "heddle.core").read_text())
    assert core["name"].count(":") == 3
    for fileset in core["filesets"].values():
        for file in fileset["files"]:
            name = file if isinstance(file, str) else next(iter(file))
            assert (emission.folder / name).is_file(), name
    assert set(core["targets"]) == {"default", "lint", "sim", "sim_verilator", "synth"}
    for target in core["targets"].values():
        assert set(target["filesets"]) <= set(core["filesets"])
    bench = (emission.folder / "smoke_bench.v").read_text()
    for name in ("sim", "sim_verilator"):
        assert f"\nmodule {core['targets'][name]['toplevel']}" in bench
    assert core["targets"]["synth"]["toplevel"] == emission.top
    assert core["targets"]["lint"]["flow_options"]["verilator_options"] == ["-Wall", *(f"-Wno-{name}" for name in ALLOWED)]
    assert '#include "Vheddle_bench.h"' in (emission.folder / "smoke.cpp").read_text()


def test_librelane_is_told_the_clock_and_of_the_memories(emission):
    config = json.loads(librelane_config(emission))
    assert config["DESIGN_NAME"] == emission.top
    assert config["CLOCK_PORT"] == "clk"
    for name in (*config["VERILOG_FILES"], config["FALLBACK_SDC_FILE"]):
        assert (emission.folder / name.removeprefix("dir::")).is_file()
    macros = emission.manifest["memory_macros"]
    assert all(name in config.get("//memories", "") for name in macros)
    assert ("//memories" in config) == bool(macros)
    sdc = (emission.folder / "heddle.sdc").read_text()
    assert f"create_clock -name clk -period {CLOCK_NS} [get_ports clk]\n" in sdc
    delayed = re.search(r"^set_input_delay 5\.0 -clock clk \[get_ports \{(.*)\}\]$", sdc, re.M)[1].split()
    inputs = {port["name"] for port in emission.manifest["ports"] if port["direction"] == "in"} - {"clk"}
    asynchronous = emission.manifest["resets"][0]["style"] == "async"
    assert set(delayed) == inputs - ({"rst"} if asynchronous else set())
    assert ("set_false_path -from [get_ports rst]" in sdc) == asynchronous


def test_the_siliconcompiler_script_is_python_that_names_the_files(emission):
    script = (emission.folder / "siliconcompiler_heddle.py").read_text()
    names = {node.args[0].value for node in ast.walk(ast.parse(script))
             if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_file"}
    assert names == {"top.v", "heddle.sdc", *(["ram_models.v"] if emission.models else [])}
    assert ("ram_models.v\")    # behavioural" in script) == bool(emission.models)


def test_the_command_writes_them_all(capsys, tmp_path):
    assert main(["emit", PRESET, "-o", str(tmp_path), "--flows", "--lint", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert all(Path(name).is_file() for name in answer["files"])
    assert {Path(name).name for name in answer["files"]} >= {*PACKAGE_FILES, "top.v", "smoke_bench.v", "component.xml"}
    assert answer["lint_clean"] is True
    assert answer["lint"]["verilator"] == []


def generate(folder: Path, parameters: dict) -> subprocess.CompletedProcess:
    """Call the generator as FuseSoC does."""
    request = {"gapi": "1.0", "files_root": str(folder), "vlnv": "acme:ip:accelerator:1.2", "parameters": parameters}
    (folder / "request.yml").write_text(yaml.safe_dump(request))
    return subprocess.run([sys.executable, str(CORES / "heddle_generator.py"), "request.yml"], cwd=folder, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)


def test_the_generator_makes_the_core_that_was_asked_for(tmp_path):
    done = generate(tmp_path, {"preset": PRESET, "set": ["queue_depth=2"], "reset": "async"})
    assert done.returncode == 0, done.stderr
    core = core_of((tmp_path / "acme_ip_accelerator_1.2.core").read_text())
    assert core["name"] == "acme:ip:accelerator:1.2"
    assert not (tmp_path / "heddle.core").exists()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"]["queue_depth"] == 2
    assert manifest["resets"][0]["style"] == "async"


def test_the_generator_refuses_what_it_does_not_know(tmp_path):
    done = generate(tmp_path, {"preset": PRESET, "speed": "high"})
    assert done.returncode == 2
    assert done.stderr == "parameters must be preset, config, set, reset or memories, not speed\n"


def test_the_cores_of_the_tree_fit_together():
    generator, accelerator = (core_of((CORES / f"heddle_{name}.core").read_text()) for name in ("generator", "accelerator"))
    assert (CORES / generator["generators"]["heddle"]["command"]).is_file()
    assert accelerator["filesets"]["generator"]["depend"] == [generator["name"]]
    assert accelerator["generate"]["accelerator"]["parameters"]["preset"] in PRESETS
    options = accelerator["targets"]["lint"]["flow_options"]["verilator_options"]
    assert options == ["-Wall", *(f"-Wno-{name}" for name in ALLOWED)]


def test_the_same_core_twice(emission):
    assert fusesoc_core(emission) == (emission.folder / "heddle.core").read_text()
