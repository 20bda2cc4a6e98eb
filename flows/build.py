"""Native simulators: Verilog to a shared library, built once for each key.

Verilator writes C++; its files, the harness and nothing else are compiled here, several at a time. Verilator's runtime library
is compiled once for each set of flags and shared. So neither make nor Perl is needed.
"""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flows.cache import cached_folder, key_of
from flows.toolchain import VERILATOR_WARNINGS, ToolError, ccache, compiler, environment, fst_headers, verilator, verilator_root
from flows.toolchain import versions as tool_versions

__all__ = ["VARIANTS", "WAVES", "NativeBuild", "Variant", "build_native"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """How a model is made.

    Attributes
    ----------
    verilator, compiler : tuple of str
        Options of Verilator, and of the C++ compiler for the files that run in every cycle.
    flat : bool
        The whole state is one block: snapshots work.
    doc : str
        One line for the help text.
    """

    verilator: tuple[str, ...]
    compiler: tuple[str, ...]
    flat: bool
    doc: str


VARIANTS = {
    "fast-build": Variant(verilator=("-fno-inline",), compiler=("-O1",), flat=False,
                          doc="modules stay apart, each compiled once: for tests"),
    "fast-run": Variant(verilator=("--flatten",), compiler=("-O2",), flat=True,
                        doc="one flat module: for long runs; offers snapshots"),
}
WAVES = {".vcd": ("--trace-vcd", "verilated_vcd_c"), ".fst": ("--trace-fst", "verilated_fst_c")}
"""Suffix of a wave file → Verilator's option and the runtime file that writes it."""

_VERILATOR = ("--cc", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing",
              "--output-split", "20000", "--output-split-cfuncs", "2000", "-Mdir", "model")
_COMPILER = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-semantic-interposition", "-pipe")
_UNIT_BYTES = 400_000
_HARNESS = Path(__file__).with_name("native")


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeBuild:
    """A simulator that `flows.native_sim` can load.

    Attributes
    ----------
    library : Path
    snapshots : bool
        Whether its state can be copied.
    waves : str or None
        Suffix of the wave files that it can write.
    fresh : bool
        Made by this call, not found.
    seconds : float
        What this call took.
    """

    library: Path
    snapshots: bool
    waves: str | None
    fresh: bool
    seconds: float


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


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ToolError(f"{Path(command[0]).name} failed ({done.returncode}):\n{said[-4000:]}")


def _jobs() -> int:
    return len(os.sched_getaffinity(0))


def _compile(units: list[Unit], folder: Path) -> None:
    """Compile `units`, largest first, as many at a time as there are processors."""
    prefix = [path] if (path := ccache()) else []
    include = verilator_root() / "include"
    headers = ["-isystem", str(include), "-isystem", str(include / "vltstd"), "-Imodel"]

    def one(unit: Unit) -> None:
        _run([*prefix, compiler(), *_COMPILER, *unit.options, *headers, "-c", str(unit.source), "-o", unit.object], folder)

    with ThreadPoolExecutor(_jobs()) as pool:
        for _ in pool.map(one, sorted(units, key=lambda unit: -unit.size)):
            pass


def _defines(waves: str | None) -> tuple[str, ...]:
    trace, fst, vcd = waves is not None, waves == ".fst", waves == ".vcd"
    return (f"-DVM_TRACE={trace:d}", f"-DVM_TRACE_FST={fst:d}", f"-DVM_TRACE_VCD={vcd:d}", "-DVM_COVERAGE=0", "-DVM_SC=0",
            "-DVM_TIMING=0")


def _runtime(waves: str | None) -> Path:
    """Return the folder with the objects of Verilator's runtime library."""
    names = ["verilated", "verilated_threads"] + ([WAVES[waves][1]] if waves else [])
    options = ("-O1", *_defines(waves))

    def fill(work: Path) -> None:
        sources = [verilator_root() / "include" / f"{name}.cpp" for name in names]
        _compile([Unit(source=file, options=options, size=file.stat().st_size) for file in sources], work)

    key = key_of(names, options, _COMPILER, tool_versions())
    return cached_folder(f"runtime-{key}", fill)[0]


def _model_units(work: Path, how: Variant, defines: tuple[str, ...]) -> list[Unit]:
    """Group Verilator's files into translation units of similar size: each pays once for the large header that all include."""
    units = []
    for kind, options in (("slow", ("-O0",)), ("fast", how.compiler)):
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


def build_native(verilog: str, top: str, *, bus_width: int, variant: str = "fast-build", waves: str | None = None,
                 label: str = "model") -> NativeBuild:
    """Make the native simulator of a design with the accelerator's ports, or find it in the cache.

    Parameters
    ----------
    verilog : str
        Source text.
    top : str
        Its top module.
    bus_width : int
        Bits of the AXI4 master.
    variant : str
        A key of `VARIANTS`.
    waves : str or None
        A key of `WAVES`: the model can write such files, and is slower.
    label : str
        Goes into the folder's name, for people.

    Raises
    ------
    ToolError
        If a tool is missing or refuses the source.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
    if waves is not None and waves not in WAVES:
        raise ValueError(f"the suffix of a wave file must be one of {', '.join(WAVES)}, not {waves!r}")
    if waves == ".fst":
        fst_headers()
    started = time.perf_counter()
    how = VARIANTS[variant]
    flags = (*_VERILATOR, *VERILATOR_WARNINGS, *how.verilator, *([WAVES[waves][0]] if waves else ()))
    defines = (*_defines(waves), f"-DHEDDLE_BUS_BYTES={bus_width // 8}", *(["-DHEDDLE_SNAPSHOTS"] if how.flat else []))
    harness = sorted(_HARNESS.iterdir())

    def fill(work: Path) -> None:
        (work / "top.v").write_text(verilog)
        for file in harness:
            shutil.copy(file, work)
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(_runtime, waves)
            _run([str(verilator()), *flags, "--top-module", top, "top.v"], work)
            units = _model_units(work, how, defines)
            units.append(Unit(source=Path("harness.cpp"), options=(*defines, "-O2"), size=_UNIT_BYTES))
            _compile(units, work)
            objects = [unit.object for unit in units] + [str(file) for file in sorted(runtime.result().glob("*.o"))]
        libraries = ["-llz4", "-lz"] if waves == ".fst" else []
        _run([compiler(), "-shared", "-Wl,-Bsymbolic", "-o", "libmodel.so", *objects, "-pthread", *libraries], work)
        for unit in units:
            (work / unit.object).unlink()
        shutil.rmtree(work / "model")

    key = key_of(verilog, top, flags, defines, how.compiler, _COMPILER, [file.read_text() for file in harness],
                 Path(__file__).read_text(), tool_versions())
    folder, fresh = cached_folder(f"native-{label}-{variant}-{key}", fill)
    return NativeBuild(library=folder / "libmodel.so", snapshots=how.flat, waves=waves, fresh=fresh,
                       seconds=time.perf_counter() - started)
