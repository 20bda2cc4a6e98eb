"""cocotb benches on Verilator: build once for each design, run, and believe nothing but the results file."""

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.toolchain import ToolError, python_library
from flows.verilated import build_model, check_waves

__all__ = ["BenchResult", "CocotbBuild", "build_cocotb", "run_cocotb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CocotbBuild:
    """A simulator with cocotb inside.

    Attributes
    ----------
    program : Path
        Has the name of the top module.
    top : str
    waves : str or None
        Suffix of the wave files that it can write.
    fresh : bool
        Made by this call, not found.
    """

    program: Path
    top: str
    waves: str | None
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """What the tests of one bench gave.

    Attributes
    ----------
    passed : tuple of str
        Names of the tests that held.
    failed : dict of str to str
        Name of each test that did not → its message.
    log : Path
        What the simulation printed.
    """

    passed: tuple[str, ...]
    failed: dict[str, str]
    log: Path


def _ports(verilog: str, top: str) -> list[str]:
    """Return the names of the top module's ports."""
    body = re.search(rf"^module {re.escape(top)}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"the Verilog has no module {top!r}")
    return re.findall(r"^  (?:input|output) +(?:wire|reg) +(?:\[\d+:\d+\] )?(\w+)(?: = [^,]+)?,?$", body[0], re.MULTILINE)


def build_cocotb(verilog: str, top: str, *, visible: Mapping[str, Sequence[str]] | None = None,
                 waves: str | None = None, label: str = "bench") -> CocotbBuild:
    """Make the simulator of a design for cocotb, or find it in the cache.

    Parameters
    ----------
    verilog, top : str
        Source text and its top module.
    visible : mapping of str to sequence of str, or None
        Module → signals in it that a bench reads or writes besides the ports of the top (each costs speed).
    waves : str or None
        A key of `flows.verilated.WAVES`: the simulator can write such files, and is slower.
    label : str
        Goes into the folder's name, for people.

    Raises
    ------
    ToolError
        If a tool is missing or refuses the source.
    """
    import cocotb_tools.config

    check_waves(waves)
    python_library()
    names = [(top, port) for port in _ports(verilog, top)]
    names += [(module, signal) for module, signals in (visible or {}).items() for signal in signals]
    control = "".join(f'public_flat_rw -module "{module}" -var "{signal}"\n' for module, signal in names)
    libraries = Path(cocotb_tools.config.libs_dir)
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    program, fresh = build_model(
        "cocotb", label, verilog, top, waves=waves, vpi=True, control=control,
        main=main, companions=(), defines=(), output=top,
        link=(f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator"))
    return CocotbBuild(program=program, top=top, waves=waves, fresh=fresh)


def _read_results(file: Path, log: Path) -> BenchResult:
    """Return what a results file says; no file, or no test in it, is an error of the bench as a whole."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else ""
    if not file.exists():
        raise ToolError(f"the simulation ended without results; the end of {log}:\n{tail}")
    passed, failed = [], {}
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if problem is None:
            passed.append(name)
        else:
            failed[name] = (problem.get("message") or problem.text or problem.tag).strip()
    if not passed and not failed:
        raise ToolError(f"the simulation ran no test; the end of {log}:\n{tail}")
    return BenchResult(passed=tuple(passed), failed=failed, log=log)


def run_cocotb(build: CocotbBuild, module: str, *, folder: Path, testcase: str | Sequence[str] | None = None, seed: int = 0,
               plusargs: Sequence[str] = (), environment: Mapping[str, str] | None = None, waves: Path | None = None,
               may_fail: bool = False) -> BenchResult:
    """Run the tests of `module` and return what they gave.

    Parameters
    ----------
    build : CocotbBuild
    module : str
        Importable name of the module with the tests.
    folder : Path
        Where the simulation runs; results.xml, simulation.log and other files of the bench land there. One for each run.
    testcase : str, sequence of str or None
        Only these tests.
    seed : int
        Of cocotb's random generator.
    plusargs, environment
        Handed to the simulation.
    waves : Path or None
        Wave file, of the suffix that `build` was made for.
    may_fail : bool
        Return failed tests instead of raising: for benches that must fail.

    Raises
    ------
    AssertionError
        If a test failed, was skipped or ended in an error; the text has their messages.
    ToolError
        If there are no results: the module cannot be imported, the simulator crashed, or no test matched.
    """
    from cocotb_tools.runner import get_runner

    if waves is not None and waves.suffix != build.waves:
        raise ValueError(f"this simulator writes {build.waves or 'no'} waves, not {str(waves)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    results, log = folder / "results.xml", folder / "simulation.log"
    for stale in (results, log):
        stale.unlink(missing_ok=True)
    search = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        get_runner("verilator").test(
            test_module=module, hdl_toplevel=build.top, hdl_toplevel_lang="verilog", build_dir=build.program.parent,
            test_dir=folder, testcase=testcase, seed=seed, plusargs=list(plusargs),
            test_args=["--trace", "--trace-file", str(waves.resolve())] if waves else [],
            extra_env={"PYTHONPATH": os.pathsep.join(search), **(environment or {})}, results_xml=str(results), log_file=log)
    except (RuntimeError, SystemExit):
        pass  # the results file tells more
    result = _read_results(results, log)
    if result.failed and not may_fail:
        raise AssertionError("\n".join([f"{len(result.failed)} of the tests of {module} failed; log in {log}",
                                        *(f"{name}: {text}" for name, text in result.failed.items())]))
    return result
