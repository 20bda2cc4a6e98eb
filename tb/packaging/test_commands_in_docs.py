"""Command lines that the documentation shows are accepted: commands, options and what they may be."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from flows.cli import COMMANDS, main
from flows.commands.common import config_from
from flows.commands.pim_config import pim_config_from
from flows.commands.system import system_from

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("models/*/*.md"))]


def shown(page: Path) -> list[str]:
    """Return the lines of code blocks that begin with `heddle`."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("heddle ")]


LINES = [(page.name, line) for page in PAGES for line in shown(page)]


def test_there_are_command_lines():
    assert {line.split()[1] for _, line in LINES} >= {"list", "run", "emit", "formats", "quantize", "synth", "report"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_is_accepted(page, line, monkeypatch):
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in COMMANDS, f"{page}: {line}"
    seen = []

    def ran(args):
        if "changes" in args and args.preset not in (None, "PRESET"):
            assert pim_config_from(args) or system_from(args) or config_from(args)
        seen.append(args)
        return True

    monkeypatch.setattr(importlib.import_module(f"flows.commands.{words[0]}"), "run", ran)
    assert main(words) == 0, f"{page}: {line}"
    assert seen
