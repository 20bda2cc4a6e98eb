"""Verilog to object files: what the native simulator and the cocotb benches have in common.

Verilator writes C++; its files are compiled here, several at a time, and its runtime library is compiled once and shared between
models. So neither make nor Perl is needed, and the defects of the wheel's makefile do not matter.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.cache import cached_folder, key_of
from flows.model_state import STATE_HEADER, state_header
from flows.toolchain import ToolError, ccache, compiler, fst_headers, verilator, verilator_root, versions

__all__ = ["SOURCE_FILES", "WAVES", "Unit", "build_model", "check_waves"]


# Rows of the array and lanes of the vector unit stay functions, each compiled once for all its instances. A 16×16 array is so
# compiled sixteen times less, and runs a tenth faster than a flat one, which does not fit into the instruction cache. With PEs
# apart too it is a seventh slower, with every module apart (-fno-inline) a third, with the memories apart a tenth, with -Os a
# third; -O3 and -march=native gain nothing.
_APART = "".join(f'no_inline -module "{pattern}"\n' for pattern in ("mesh_row_*", "vector_lane_*"))
_EVERY_CYCLE = ("-O2",)
"""Options of the C++ compiler for the files that run in every cycle."""
WAVES = {".vcd": ("--trace-vcd", "verilated_vcd_c"), ".fst": ("--trace-fst", "verilated_fst_c")}
"""Suffix of a wave file → Verilator's option and the runtime file that writes it."""

SOURCE_FILES = (Path(__file__), Path(__file__).with_name("model_state.py"))
"""Files whose contents belong into the key of whatever is built with this module."""

# Amaranth's Verilog gives rise to these, and they say nothing about the design; every other warning is fatal.
_WARNINGS = ("-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-CASEINCOMPLETE", "-Wno-CASEOVERLAP", "-Wno-UNOPTFLAT")
_VERILATOR = ("--cc", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing",
              "--output-split", "20000", "--output-split-cfuncs", "2000", "-Mdir", "model", *_WARNINGS)
# Two models in one process must not share symbols (the linker binds the runtime's inside each library); with the VPI there is
# one process for each, and cocotb looks for them.
_COMPILER = ("-std=c++17", "-fPIC", "-fno-gnu-unique", "-fno-semantic-interposition", "-pipe")
_PRIVATE = ("-fvisibility=hidden",)
_UNIT_BYTES = 400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One call of the compiler; `size` in bytes orders the calls."""

    source: Path
    options: tuple[str, ...]
    size: int

    @property
    def object(self) -> str:
        """Name of the object file."""
        return f"{self.source.stem}.o"


def check_waves(waves: str | None) -> None:
    """Raise ValueError unless `waves` is None or a key of `WAVES` that can be built here."""
    if waves is not None and waves not in WAVES:
        raise ValueError(f"the suffix of a wave file must be one of {', '.join(WAVES)}, not {waves!r}")
    if waves == ".fst":
        fst_headers()


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, "VERILATOR_ROOT": str(verilator_root())}, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ToolError(f"{Path(command[0]).name} failed ({done.returncode}):\n{said[-4000:]}")


def _compile(units: list[Unit], folder: Path) -> None:
    """Compile `units`, largest first, as many at a time as there are processors."""
    prefix = [path] if (path := ccache()) else []
    include = verilator_root() / "include"
    headers = ["-isystem", str(include), "-isystem", str(include / "vltstd"), "-Imodel"]

    def one(unit: Unit) -> None:
        _run([*prefix, compiler(), *_COMPILER, *unit.options, *headers, "-c", str(unit.source), "-o", unit.object], folder)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(one, sorted(units, key=lambda unit: -unit.size)):
            pass


def _defines(waves: str | None, vpi: bool) -> tuple[str, ...]:
    """Return the options that model and main file must agree on."""
    trace, fst, vcd = waves is not None, waves == ".fst", waves == ".vcd"
    return (f"-DVM_TRACE={trace:d}", f"-DVM_TRACE_FST={fst:d}", f"-DVM_TRACE_VCD={vcd:d}", "-DVM_COVERAGE=0", "-DVM_SC=0",
            "-DVM_TIMING=0", *(() if vpi else _PRIVATE))


def _runtime(waves: str | None, vpi: bool) -> list[str]:
    """Return the objects of Verilator's runtime library, each made once and shared by all models that need it."""
    names = ["verilated", "verilated_threads", *(["verilated_vpi"] if vpi else []), *([WAVES[waves][1]] if waves else [])]
    objects = []
    for name in names:
        unit = Unit(source=verilator_root() / "include" / f"{name}.cpp", options=("-O1",), size=0)
        folder, _ = cached_folder(f"runtime-{name}-{key_of(unit.options, _COMPILER, versions())}", partial(_compile, [unit]))
        objects.append(str(folder / unit.object))
    return objects


def _model_units(work: Path, defines: tuple[str, ...]) -> list[Unit]:
    """Group Verilator's files into translation units of similar size: each pays once for the large header that all include."""
    units = []
    for kind, options in (("slow", ("-O0",)), ("fast", _EVERY_CYCLE)):
        files = [file for file in sorted((work / "model").glob("*.cpp")) if file.stem.endswith("__Slow") == (kind == "slow")]
        sizes = {file: file.stat().st_size for file in files}
        bins: list[list[Path]] = [[] for _ in range(max(1, min(len(files), round(sum(sizes.values()) / _UNIT_BYTES))))]
        for file in sorted(files, key=lambda file: -sizes[file]):
            min(bins, key=lambda group: sum(sizes[member] for member in group)).append(file)
        for index, group in enumerate(bins):
            unit = Unit(source=Path(f"{kind}{index}.cpp"), options=(*defines, *options), size=sum(sizes[file] for file in group))
            (work / unit.source).write_text("".join(f'#include "{file.name}"\n' for file in sorted(group)))
            units.append(unit)
    return units


def build_model(kind: str, label: str, verilog: str, top: str, *, waves: str | None, vpi: bool, control: str, main: Path,
                companions: tuple[Path, ...], defines: tuple[str, ...], link: tuple[str, ...],
                output: str, options: tuple[str, ...] = ()) -> tuple[Path, bool]:
    """Make one program or library out of a model and a main file, or find it in the cache.

    Parameters
    ----------
    kind, label : str
        Go into the folder's name.
    verilog, top : str
        Source text and its top module.
    waves : str or None
        A key of `WAVES`.
    vpi : bool
        Link the VPI.
    control : str
        Lines of a Verilator control file.
    main : Path
        C++ file that drives the model; `companions` are the headers beside it.
    defines, link : tuple of str
        Options of the compiler for all files, and of the linker.
    output : str
        Name of the result.
    options : tuple of str
        Further options of Verilator.

    Returns
    -------
    (Path, bool)
        The result, and whether this call made it.
    """
    control = _APART + control
    trace = (WAVES[waves][0],) if waves else ()
    flags = (*_VERILATOR, *trace, *(("--vpi",) if vpi else ()), *options)
    defines = (*_defines(waves, vpi), *defines)
    if waves == ".fst":
        link = (*link, "-llz4", "-lz")

    def fill(work: Path) -> None:
        for name, text in (("top.v", verilog), ("control.vlt", "`verilator_config\n" + control)):
            (work / name).write_text(text)
        for file in (main, *companions):
            shutil.copy(file, work)
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(_runtime, waves, vpi)
            _run([str(verilator()), *flags, "--top-module", top, "control.vlt", "top.v"], work)
            (work / "model" / STATE_HEADER).write_text(state_header(work / "model"))
            units = _model_units(work, defines)
            units.append(Unit(source=Path(main.name), options=(*defines, "-O2"), size=_UNIT_BYTES))
            _compile(units, work)
            objects = [*(unit.object for unit in units), *runtime.result()]
        _run([compiler(), "-o", output, *objects, "-pthread", *link], work)
        for unit in units:
            (work / unit.object).unlink()
        shutil.rmtree(work / "model")

    key = key_of(verilog, top, flags, _EVERY_CYCLE, defines, link, _COMPILER, control, versions(),
                 [file.read_text() for file in (main, *companions, *SOURCE_FILES)])
    folder, fresh = cached_folder(f"{kind}-{label}-{key}", fill)
    return folder / output, fresh
