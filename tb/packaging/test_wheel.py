"""What is installed: every module and data file that the code needs, and nothing that belongs to a checkout."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IN_A_CHECKOUT = ("flows/docs/",)
"""What makes the pages of `docs/`."""

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
def installed(tmp_path_factory) -> Path:
    """Return a folder with what a wheel would hold, made by setuptools without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "-q", "egg_info", "--egg-base",
                    str(folder), "build", "--build-base", str(folder / "build"), "build_py", "--build-lib", str(folder / "lib")],
                   cwd=ROOT, check=True, capture_output=True)
    return folder / "lib"


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_every_file_of_the_packages_is_installed(installed):
    wanted = {name for name in tracked("hw", "sw", "flows") if not name.startswith(IN_A_CHECKOUT)} | {"heddle.py"}
    assert files_of(installed) >= wanted


def test_nothing_else_is_installed(installed):
    """Neither the testbenches nor a package that lies in the same folder."""
    assert {name.split("/")[0] for name in files_of(installed)} == {"heddle.py", "hw", "sw", "flows"}
    assert not [name for name in files_of(installed) if name.startswith(IN_A_CHECKOUT) or "__pycache__" in name]


def test_nothing_installed_imports_what_is_not(installed):
    for name in sorted(files_of(installed)):
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((installed / name).read_text())):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else \
                    [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not [module for module in modules if module.startswith(("tb", "flows.docs", "benchmarks"))], name


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda words: words[0])
def test_commands_work_from_there(installed, tmp_path, request_):
    """Away from the checkout; builds go to the user's cache folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HEDDLE_CACHE", "PYTHONPATH")}
    probe = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import flows.cli, flows.cache; "
             "print(flows.cli.__file__, flows.cache.cache_root(), file=sys.stderr); sys.exit(flows.cli.main())")
    done = subprocess.run([sys.executable, "-c", probe, str(installed), *request_], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"{installed}/flows/cli.py {tmp_path}/cache/heddle\n")
    assert done.stdout
