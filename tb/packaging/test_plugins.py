"""Packages that join through entry points: the example package does, and what is wrong with one is said."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "heddle-example"


def install(folder: Path, project: dict, module: Path | None = None) -> Path:
    """Lay a package into `folder` as pip would: its module, and its entry points."""
    name, version = project["name"].replace("-", "_"), project["version"]
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    if module:
        (folder / module.name).write_text(module.read_text())
    return folder


def heddle(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command with `folder` on the path of packages."""
    return subprocess.run([sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(folder)})


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """Return a folder in which the example package is installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    return install(tmp_path_factory.mktemp("packages"), project, EXAMPLE / "heddle_example.py")


def test_what_a_package_adds_is_listed(example):
    listed = json.loads(heddle(example, "list", "--json").stdout)
    assert "floor4" in listed["pes"]
    assert listed["engines"]["probed"] == "systolic, with a counter of its steps"
    assert {"example-4x4", "example-probed-4x4"} <= set(listed["presets"])
    assert "fp4-sixths-g32" in listed["formats"]


def test_a_gemm_with_its_pe(example):
    """The golden device multiplies as the package says, and the result differs from that of the built-in PE."""
    done = heddle(example, "run", "example-4x4", "--gemm", "8,8,8", "--device", "golden", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["macs"] == 512


def test_its_engine_is_in_the_verilog(example, tmp_path):
    """Beside the PE of the same package; `Signal` and module names are those of the package's source."""
    done = heddle(example, "emit", "example-probed-4x4", "-o", str(tmp_path), "--lint", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lint_clean"] is True
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["hierarchy"]["heddle"]["engine"] == "heddle_probed_engine"
    assert "pe_floor4_a8_w8_p24_wsos" in manifest["modules"]
    verilog = (tmp_path / "top.v").read_text()
    engine = verilog[verilog.index("\nmodule heddle_probed_engine("):]
    assert re.search(r"^  reg \[31:0\] steps = ", engine[:engine.index("\nendmodule")], re.M)


@pytest.mark.full
def test_its_engine_and_pe_run_as_their_models_say(example):
    done = heddle(example, "run", "example-probed-4x4", "--gemm", "9,10,11", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["match"] is True


def test_its_source_is_part_of_what_names_a_build(example, tmp_path):
    """An edited block of a package must not be tested as its old self."""
    probe = "from hw.presets import preset_named; from flows.emit import emit; print(emit(preset_named('example-4x4')).folder)"
    changed = tmp_path / "packages"
    shutil.copytree(example, changed)
    with (changed / "heddle_example.py").open("a") as file:
        file.write("# edited\n")
    folders = [subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True,
                              env={**os.environ, "PYTHONPATH": str(folder)}).stdout for folder in (example, changed)]
    assert folders[0] != folders[1]


def test_its_format_quantizes(example):
    probe = ("import numpy as np; from sw.formats import quantize, dequantize; q = quantize(np.arange(64.0), 'fp4-sixths-g32'); "
             "print(q.format.name, dequantize(q)[63])")
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(example)})
    assert done.stdout == "fp4-sixths-g32 63.0\n", done.stderr


@pytest.mark.parametrize(("group", "name", "value", "said"), [
    ("heddle.pes", "broken", "no_such_module:PE",
     "heddle: entry point 'broken' of heddle.pes (bad-package 1.0), no_such_module:PE, must be loadable: No module named"),
    ("heddle.presets", "systolic-4x4", "hw.presets:PRESETS",
     "heddle: entry point 'systolic-4x4' of heddle.presets must not have the name of something built in"),
])
def test_a_bad_entry_point_is_named(tmp_path, group, name, value, said):
    folder = install(tmp_path, {"name": "bad-package", "version": "1.0", "entry-points": {group: {name: value}}})
    done = heddle(folder, "list")
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
