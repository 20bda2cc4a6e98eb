"""Libraries that run faults in lanes: the C++ of a design's functions and the runtime, compiled for this machine."""

import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.cache import cached_folder, key_of
from flows.fault.lanes_source import lanes_source
from flows.fault.segments import Segmentation
from flows.toolchain import ToolError, compiler, versions

__all__ = ["build_lanes"]

_NATIVE = Path(__file__).resolve().parents[1] / "native"
_RUNTIME = ("lanes.cpp", "lanes_dense.cpp", "lanes_step.cpp", "lanes_trace.cpp", "lanes_verdict.cpp")
_OPTIONS = ("-std=c++20", "-march=native", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-pipe", "-Wall", "-Wno-psabi")
_NO_STRIKES = '#include "lanes_words.h"\nextern const StruckFunction struck_functions[] = {nullptr};\n'


def _machine() -> str:
    """Return what the compiler makes of this machine's processor."""
    info = Path("/proc/cpuinfo")
    flags = [line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))] if info.exists() else []
    return f"{platform.machine()} {platform.processor()} {flags[0] if flags else ''}"


def _compile(sources: list[tuple[Path, tuple[str, ...]]], library: Path) -> None:
    def one(unit: tuple[Path, tuple[str, ...]]) -> str:
        source, options = unit
        target = library.parent / f"{source.stem}{'-struck' if '-DSTRIKE' in options else ''}.o"
        command = [compiler(), *_OPTIONS, *options, f"-I{_NATIVE}", "-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"the C++ compiler refused {source.name}: {done.stderr.strip()[:2000]}")
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(one, sources))
    done = subprocess.run([compiler(), "-shared", "-o", str(library), *objects], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"the linker refused {library.name}: {done.stderr.strip()[:2000]}")
    for file in objects:
        Path(file).unlink()


def build_lanes(pieces: Segmentation, *, gates: bool) -> Path:
    """Return the library for a design's functions, from the cache if nothing that decides it has changed.

    Parameters
    ----------
    pieces : Segmentation
    gates : bool
        Whether results of single operations can be struck; the functions are then compiled twice.

    Raises
    ------
    ToolError
        If there is no C++ compiler.
    """
    source = lanes_source(pieces.functions)
    files = sorted(_NATIVE.glob("lanes*"))
    key = key_of(source, gates, versions()["compiler"], _machine(), *_OPTIONS, *(file.read_bytes() for file in files))

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            functions, none = Path(scratch) / "functions.cpp", Path(scratch) / "no_strikes.cpp"
            functions.write_text(source)
            none.write_text(_NO_STRIKES)
            units: list[tuple[Path, tuple[str, ...]]] = [(functions, ("-O1",))]
            units.append((functions, ("-O1", "-DSTRIKE")) if gates else (none, ()))
            units += [(_NATIVE / name, ("-O3",)) for name in _RUNTIME]
            _compile(units, folder / "lanes.so")

    folder, _ = cached_folder(f"lanes-{key}", fill)
    return folder / "lanes.so"
