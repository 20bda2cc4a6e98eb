"""Rules about the tree itself: nothing personal, nothing unfinished, nothing too long to read in one sitting."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".cpp", ".h", ".sh", ".cfg", ""}


def tracked() -> list[Path]:
    """Return the files of the tree that git does not ignore."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file() and (ROOT / name).suffix in TEXT]


FILES = tracked()
SOURCES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("hw", "sw", "flows")]


def test_there_are_files():
    assert len(FILES) > 30
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_of_a_machine(path):
    assert not re.search(r"(?<![\w.$}])/(work|root|farm|home)/", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(path):
    assert path.read_text().count("\n") <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_promised_instead_of_done(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is(path):
    text = path.read_text()
    assert not text or text.startswith('"""')
