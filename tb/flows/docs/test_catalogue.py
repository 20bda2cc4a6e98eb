"""docs/catalogue.md: every component of `hw` has a row, and what the row says of its place and its bench holds."""

import importlib
import inspect
from pathlib import Path

import pytest
from amaranth.hdl import Fragment
from amaranth.lib import wiring

from flows.docs.catalogue import catalogue_page
from hw.presets import preset_named
from hw.top import Accelerator

ROOT = Path(__file__).resolve().parents[3]


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    return {cells(line)[0]: cells(line) for line in catalogue_page().splitlines() if line.startswith("| `")}


def test_every_component_has_a_row():
    """By importing every file, where the page only reads it; two of one name have a row each."""
    listed = [tuple(cells(line)[:3]) for line in catalogue_page().splitlines() if line.startswith("| `")]
    assert len(set(listed)) == len(listed)
    for file in (ROOT / "hw").rglob("*.py"):
        module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, wiring.Component) and value.__module__ == module.__name__:
                what = " ".join(value.__doc__.split("\n\n")[0].split()).replace("|", "\\|")
                assert (name, what, file.name) in listed


def test_benches_exist():
    folder = None
    found = 0
    for line in catalogue_page().splitlines():
        if line.startswith("Files in "):
            folder = ROOT / line.split("`")[1].replace("hw", "tb", 1)
        elif line.startswith("| `"):
            for bench in cells(line)[-1].replace("`", "").split(", "):
                if bench.endswith(".py") or bench.startswith("tb/"):
                    found += 1
                    assert (ROOT if bench.startswith("tb/") else folder).joinpath(bench).exists(), line
    assert found > 40


def test_what_the_accelerator_is_made_of(rows, monkeypatch):
    """What is made while an accelerator is elaborated is said to be in it."""
    made: set[str] = set()
    initialize = wiring.Component.__init__

    def record(self, *arguments, **options):
        made.add(type(self).__name__)
        initialize(self, *arguments, **options)

    monkeypatch.setattr(wiring.Component, "__init__", record)
    Fragment.get(Accelerator(preset_named("systolic-4x4")), None)
    assert len(made & set(rows)) > 20
    for name in made & set(rows):
        assert "accelerator" in rows[name][3], name
