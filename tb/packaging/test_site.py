"""The site of the documentation: built without a warning, and complete without a network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_generated"))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", f"{folder}/docs", f"{folder}/html"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n(`make site` installs Sphinx)"
    return folder / "html"


@pytest.mark.full
def test_every_page_is_there(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
    assert "quantize" in (site / "_generated" / "sw.formats.quantize.html").read_text()


@pytest.mark.full
def test_nothing_is_loaded_from_a_network(site):
    """Links lead out of it; scripts, styles, fonts and images do not."""
    loads = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)\s*=\s*["'](?:https?:)?//[^"']*["']""", re.I)
    styles = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//""", re.I)
    for file in site.rglob("*"):
        if file.suffix == ".html":
            assert not loads.search(file.read_text()), file
        elif file.suffix == ".css":
            assert not styles.search(file.read_text()), file
