"""Fixtures of the tests of synthesis."""

import pytest

from flows.synth import tools
from tb.flows.synth.designs import timed_liberty


@pytest.fixture
def timed(tmp_path):
    """A library with delays."""
    file = tmp_path / "tiny.lib"
    file.write_text(timed_liberty())
    return file


@pytest.fixture
def forgets():
    """Tools are looked for again, in the test and after it."""
    tools.find_tool.cache_clear()
    yield
    tools.find_tool.cache_clear()
