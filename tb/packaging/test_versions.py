"""One version, wherever it is told."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
HEADING = re.compile(r"^## (\S+)(?: – (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def test_the_changelog_has_what_is_not_released_and_then_this_version():
    headings = HEADING.findall((ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == VERSION
    assert all(date for _, date in headings[1:])
    assert [date for _, date in headings[1:]] == sorted((date for _, date in headings[1:]), reverse=True)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "abstract", "authors", "version", "date-released", "license"} <= citation.keys()
    assert citation["version"] == VERSION
    assert str(citation["date-released"]) == dict(HEADING.findall((ROOT / "CHANGELOG.md").read_text()))[VERSION]
