"""What the code imports is what pyproject.toml says that it needs, part by part."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from flows.synth.tools import TOOLS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"hw", "sw", "flows", "tb", "benchmarks", "heddle", "heddle_example"}
INSTALLED = ("hw", "sw", "flows", "heddle.py")
IN_A_CHECKOUT = ("tb", "benchmarks")
EXTRA_OF = {
    "flows/cocotb_runner.py": "test",
    "flows/fault/engines/cocotb_bench.py": "test",
    "flows/cores/heddle_generator.py": "fusesoc",
    "flows/fault/figures/statistics.py": "fault",
    "flows/fault/campaign/store.py": "fault",
    "sw/gguf.py": "gguf",
}
"""Files of which nothing else depends, and the extra that they may import besides."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    """Return the names of distributions, extras of our own resolved."""
    names: set[str] = set()
    for text in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", text).groups()
        if name == PROJECT["name"]:
            for extra in extras.split(","):
                names |= declared(PROJECT["optional-dependencies"][extra])
        else:
            names.add(normal(name))
    return names


@cache
def distributions() -> dict[str, list[str]]:
    return {module: [normal(name) for name in names] for module, names in importlib.metadata.packages_distributions().items()}


def third_party(path: Path) -> Iterator[str]:
    """Yield the outside packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            package = name.split(".")[0]
            if package not in OURS and package not in sys.stdlib_module_names:
                yield package


def files_of(*names: str) -> list[str]:
    paths = [ROOT / name for name in names]
    return sorted(str(file.relative_to(ROOT)) for path in paths for file in ([path] if path.is_file() else path.rglob("*.py")))


def undeclared(file: str, allowed: set[str]) -> list[str]:
    return [package for package in third_party(ROOT / file) if not allowed & set(distributions().get(package, []))]


@pytest.mark.parametrize("file", [file for file in files_of(*INSTALLED) if any(third_party(ROOT / file))])
def test_what_is_installed_imports_what_is_declared(file):
    extra = declared(PROJECT["optional-dependencies"][EXTRA_OF[file]]) if file in EXTRA_OF else set()
    assert not undeclared(file, declared(PROJECT["dependencies"]) | extra)


@pytest.mark.parametrize("file", [file for file in files_of(*IN_A_CHECKOUT) if any(third_party(ROOT / file))])
def test_what_tests_and_measures_imports_what_setup_installs(file):
    assert not undeclared(file, declared(PROJECT["dependencies"]) | declared(PROJECT["optional-dependencies"]["test"]))


@pytest.mark.parametrize("file", EXTRA_OF)
def test_an_exception_is_one(file):
    assert undeclared(file, declared(PROJECT["dependencies"]))


def test_a_missing_declaration_is_noticed():
    assert undeclared("flows/view/waves.py", declared(PROJECT["dependencies"]) - {"pyvcd"}) == ["vcd"]


def test_wheels_of_tools_are_declared():
    assert {normal(tool.package) for tool in TOOLS.values()} == declared(PROJECT["optional-dependencies"]["fpga"])


def test_every_extra_that_a_text_names_exists():
    texts = [ROOT / name for name in files_of("hw", "sw", "flows")] + sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md"]
    named = {extra for path in texts for extra in re.findall(r"heddle\[(\w+)\]", path.read_text())}
    assert named
    assert named <= PROJECT["optional-dependencies"].keys()
