"""Who may import whom: hw → nothing of ours, sw → hw's pure data, flows → hw and sw, and nothing imports tb."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"hw", "sw", "tb", "flows"}
PURE = {"config", "curves", "elements", "engines", "errors", "families", "formats", "interchange", "isa", "layout", "plugins",
        "presets", "regs", "system", "timing"}
PURE_INSIDE = {"bridge.protocol", "protect.domains", "pim.config", "pim.crf", "pim.isa", "pim.presets", "pim.timing",
               "pim.timing_tables", "pim.units"}
MAY_IMPORT = {"hw": {"hw"}, "sw": {"hw", "sw"}, "flows": {"hw", "sw", "flows"}, "tb": OURS}


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports, `from x import y` as x.y."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_folder_may(path):
    package = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] in OURS:
            assert parts[0] in MAY_IMPORT[package], f"{package} must not import {name}"
            if package == "sw" and parts[0] == "hw":
                pure = parts[1] in PURE or ".".join(parts[1:3]) in PURE_INSIDE
                assert pure, f"sw may import only the pure-data files of hw, not {name}"
        if package == "sw":
            assert parts[0] != "amaranth", "sw runs without Amaranth"


def test_the_rule_has_files_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == OURS


@pytest.mark.parametrize("module", sorted(PURE & {path.stem for path in (ROOT / "hw").iterdir()} | PURE_INSIDE))
def test_pure_data_needs_the_standard_library_only(module):
    probe = (f"import sys, hw.{module}; "
             "print(*(n for n in sys.modules if n.split('.')[0] in ('amaranth', 'numpy', 'sw', 'flows')))")
    found = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not found
