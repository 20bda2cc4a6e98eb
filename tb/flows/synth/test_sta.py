"""OpenSTA: what it is given, what it says, what happens when it fails."""

import re
import subprocess

import pytest

from flows import toolchain
from flows.synth.liberty import parse_liberty
from flows.synth.memories import keep_macros
from flows.synth.sta import analyse, memory_liberty
from flows.toolchain import ToolError
from tb.flows.synth.designs import POWER, SAID, fake_sta, rtlil_memory, timed_liberty


def test_what_opensta_says_is_read(tmp_path):
    library = parse_liberty(timed_liberty())
    arguments = {"top": "t", "liberty": library, "clock_ns": 4.0, "activity": 0.1, "inputs": ["d"], "clock_port": True}
    found = analyse(fake_sta(tmp_path, SAID + POWER), tmp_path, **arguments)
    assert (found.slack_ns, found.fmax_mhz) == (-0.25, pytest.approx(1000 / 4.25))
    assert found.path == {"start": "control/_1_", "end": "control/_2_", "levels": 2, "cells": ["control/_1_", "control/_3_"]}
    assert found.power_mw == {"internal": 1.0, "switching": 2.0, "leakage": pytest.approx(0.003), "total": pytest.approx(3.003)}
    assert analyse(fake_sta(tmp_path, SAID), tmp_path, **arguments).power_mw is None
    nothing = POWER.split("Total")[0] + "Total                  0.0e+00   0.0e+00   0.0e+00   0.0e+00   0.0%\n"
    assert analyse(fake_sta(tmp_path, SAID + nothing), tmp_path, **arguments).power_mw is None
    assert analyse(fake_sta(tmp_path, "No paths found.\n"), tmp_path, **arguments) is None
    with pytest.raises(ToolError, match=r"^OpenSTA must report a path, not 'Error: broken'$"):
        analyse(fake_sta(tmp_path, "Error: broken\n"), tmp_path, **arguments)


def test_an_opensta_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.synth.sta._SECONDS", 0.2)
    program = tmp_path / "sta"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match=r"^OpenSTA must finish within 0\.2 s$"):
        analyse(str(program), tmp_path, top="t", liberty=parse_liberty(timed_liberty()), clock_ns=1.0, activity=0.1, inputs=[],
                clock_port=True)


def test_the_library_of_macros_is_a_liberty(tmp_path):
    _, memories = keep_macros("module \\a\n" + rtlil_memory("big", 64, 64) + "\nend\n", 4096)
    text = memory_liberty(memories, 1.5, 0.002, {"memory_64x64_1r1w": 8})
    assert re.search(r"bus \(WR_EN\) .* capacitance : 0\.00025;", text)
    assert re.search(r"bus \(WR_DATA\) .* capacitance : 0\.002;", text)
    assert re.search(r"bus \(WR_EN\) .* capacitance : 0\.002;", memory_liberty(memories, 1.5, 0.002, {}))
    assert text.count("{") == text.count("}")
    assert 'values ("1.5")' in text
    assert "cell (memory_64x64_1r1w)" in text


def test_the_version_of_opensta(monkeypatch):
    toolchain.opensta_version.cache_clear()
    monkeypatch.setattr(toolchain, "opensta", lambda: None)
    assert toolchain.opensta_version() is None
    toolchain.opensta_version.cache_clear()
    monkeypatch.setattr(toolchain, "opensta", lambda: "sta")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "2.0.17\n", ""))
    assert toolchain.opensta_version() == "2.0.17"
    toolchain.opensta_version.cache_clear()
