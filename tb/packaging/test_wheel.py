"""What is installed: every module and data file that the code needs, and nothing that belongs to a checkout."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IN_A_CHECKOUT = ("flows/docs/",)
"""What makes the pages of `docs/`."""

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

REQUESTS = (
    ("list", "--json"),
    ("formats", "int4-g32"),
    ("run", "systolic-4x4", "--gemm", "4,4,4", "--device", "golden"),
)


def tracked(*folders: str) -> set[str]:
    """Return the files below `folders` that git does not ignore."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\n")
    return {name for name in listed if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel, built of a copy of the checkout by pip, without a network."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked("."):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)],
                   cwd=folder, check=True, capture_output=True)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Return a folder into which the wheel is installed, away from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder), str(wheel)],
                   cwd=folder, check=True, capture_output=True)
    return folder


def files_of(folder: Path) -> set[str]:
    """Return the files of the packages, without what pip puts beside them."""
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    return {name for name in files if name != "bin/heddle" and ".dist-info/" not in name}


def test_every_file_of_the_packages_is_installed(installed):
    wanted = {name for name in tracked("hw", "sw", "flows") if not name.startswith(IN_A_CHECKOUT)} | {"heddle.py"}
    assert files_of(installed) >= wanted


def test_nothing_else_is_installed(installed):
    """Neither the testbenches nor a package that lies in the same folder."""
    assert {name.split("/")[0] for name in files_of(installed)} == {"heddle.py", "hw", "sw", "flows"}
    assert not [name for name in files_of(installed) if name.startswith(IN_A_CHECKOUT)]


def test_nothing_installed_imports_what_is_not(installed):
    for name in sorted(files_of(installed)):
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((installed / name).read_text())):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else \
                    [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not [module for module in modules if module.startswith(("tb", "flows.docs", "benchmarks"))], name


def test_the_wheel_says_what_the_project_says(wheel, installed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wheel.name == f"heddle-{project['version']}-py3-none-any.whl"
    (metadata,) = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert f"\nVersion: {project['version']}\n" in text
    assert all(f"\nProvides-Extra: {extra}\n" in text for extra in project["optional-dependencies"])
    assert f"\nRequires-Dist: {project['dependencies'][1]}\n" in text


def heddle(installed, folder, *arguments):
    """Run the installed command in `folder`, away from the checkout; builds go to the user's cache folder."""
    environment = {name: value for name, value in os.environ.items() if name != "HEDDLE_CACHE"}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, str(installed / "bin" / "heddle"), *arguments], cwd=folder, capture_output=True,
                          text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda words: words[0])
def test_commands_work_from_there(installed, tmp_path, request_):
    assert heddle(installed, tmp_path, *request_)


def test_it_is_the_wheel_that_runs(installed, tmp_path):
    probe = "import flows.cli, heddle, hw.config, sw.device as d; print(*(m.__file__ for m in (flows.cli, heddle, hw.config, d)))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"})
    assert all(file.startswith(f"{installed}/") for file in done.stdout.split())


def test_an_accelerator_is_emitted_from_there(installed, tmp_path):
    answer = json.loads(heddle(installed, tmp_path, "emit", "systolic-4x4", "-o", "out", "--flows", "--json"))
    from flows.emit import emit
    from hw.presets import PRESETS

    assert (tmp_path / "out" / "top.v").read_text() == emit(PRESETS["systolic-4x4"]).verilog
    assert {Path(name).name for name in answer["files"]} == {path.name for path in (tmp_path / "out").iterdir()}
    assert (tmp_path / "cache" / "heddle").is_dir()
