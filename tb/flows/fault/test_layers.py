"""Who may import whom within `flows.fault`: each package only those before it."""

import ast
from pathlib import Path

import pytest

import flows.fault

ROOT = Path(flows.fault.__file__).parent
ORDER = ("records", "targets", "netlist", "engines", "figures", "campaign", "hardening", "model", "reports")
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def needs(path: Path) -> set[str]:
    """Return the packages of `flows.fault` that a file imports."""
    names = {f"{node.module}.{alias.name}" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
             for alias in node.names}
    return {name.split(".")[2] for name in names if name.startswith("flows.fault.")}


def test_every_package_has_its_place():
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == {*ORDER, "__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_knows_only_those_before_it(path):
    mine = ORDER.index(path.relative_to(ROOT).parts[0])
    assert all(ORDER.index(name) <= mine for name in needs(path))


def test_there_are_imports_to_check():
    assert set().union(*map(needs, FILES)) >= {"records", "targets", "netlist", "engines", "figures", "campaign"}
