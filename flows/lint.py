"""Lint of emitted Verilog: Verilator with every warning on, and Icarus as a second reader where it is installed."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows.toolchain import ToolError, verilator, verilator_root

__all__ = ["ALLOWED", "LintReport", "icarus", "lint"]

ALLOWED = {
    "WIDTHEXPAND": "an operand narrower than its operator is extended as the language says; Amaranth relies on it",
    "WIDTHTRUNC": "`!` of a vector asks whether it is zero",
    "CASEINCOMPLETE": "a default assignment stands before each case",
    "CASEOVERLAP": "the first arm that matches counts",
    "PROCASSINIT": "registers have initial values besides their reset, for FPGAs",
    "UNUSEDSIGNAL": "blocks keep every port of their signature, and field names of packed words are for readers of waves",
    "UNOPTFLAT": "a packed word whose fields depend on each other is no loop",
    "DECLFILENAME": "one file has all modules",
}
"""Verilator's warning → why our Verilog may give rise to it; every other one fails the lint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LintReport:
    """What the linters said.

    Attributes
    ----------
    warnings : dict of str to tuple of str
        Linter that ran → its warnings.
    """

    warnings: dict[str, tuple[str, ...]]

    @property
    def clean(self) -> bool:
        """Whether no linter had anything to say."""
        return not any(self.warnings.values())


def icarus() -> tuple[Path, Path]:
    """Return Icarus Verilog's compiler and runner."""
    compiler, runner = shutil.which("iverilog"), shutil.which("vvp")
    if compiler is None or runner is None:
        raise ToolError("iverilog not found (the second Verilog reader): install it with 'apt-get install iverilog'")
    return Path(compiler), Path(runner)


def _messages(text: str, pattern: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if re.search(pattern, line))


class _Emitted(Protocol):
    """Verilog with its top module, and models of the memory macros, if there are any."""

    @property
    def verilog(self) -> str: ...

    @property
    def models(self) -> str: ...

    @property
    def top(self) -> str: ...


def lint(emission: _Emitted, *, need_icarus: bool = False) -> LintReport:
    """Lint the Verilog of `emission` and its memory models.

    Parameters
    ----------
    emission : Emission, or PimEmission
    need_icarus : bool
        Whether Icarus must be there; without, it runs where it is installed.

    Raises
    ------
    ToolError
        If a linter is missing.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="heddle.lint.") as work:
        files = ["top.v", *(["ram_models.v"] if emission.models else [])]
        for name, text in zip(files, (emission.verilog, emission.models), strict=False):
            (Path(work) / name).write_text(text)
        command = [str(verilator()), "--lint-only", "-Wall", *(f"-Wno-{name}" for name in ALLOWED), "--top-module", emission.top]
        done = subprocess.run([*command, *files], cwd=work, env={**os.environ, "VERILATOR_ROOT": str(verilator_root())},
                              capture_output=True, text=True, check=False)
        found["verilator"] = _messages(done.stderr, r"^%(Warning|Error)")
        if done.returncode and not found["verilator"]:
            raise ToolError(f"verilator failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
        if need_icarus or shutil.which("iverilog"):
            command = [str(icarus()[0]), "-g2005", "-Wall", "-t", "null", "-s", emission.top, *files]
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
            found["icarus"] = _messages(done.stderr, r"warning|error|sorry")
            if done.returncode and not found["icarus"]:
                raise ToolError(f"iverilog failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
    return LintReport(warnings=found)
