"""Libraries that run faults in lanes: the C++ of a design's functions and the runtime, compiled for this machine."""

import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.cache import cached_folder, key_of
from flows.fault.engines.lanes.segments import Segmentation
from flows.fault.engines.lanes.source import lanes_source
from flows.toolchain import ToolError, compiler, versions

__all__ = ["build_lanes"]

_NATIVE = Path(__file__).resolve().parents[3] / "native"
_RUNTIME = ("lanes.cpp", "lanes_dense.cpp", "lanes_step.cpp", "lanes_trace.cpp", "lanes_verdict.cpp")
_OPTIONS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-pipe", "-Wall", "-Wno-psabi")
_NO_STRIKES = '#include "lanes_words.h"\nextern const StruckFunction struck_functions[] = {nullptr};\n'


def _machine() -> str:
    """Return what the compiler makes of this machine's processor."""
    info = Path("/proc/cpuinfo")
    flags = [line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))] if info.exists() else []
    return f"{platform.machine()} {platform.processor()} {flags[0] if flags else ''}"


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"the C++ compiler refused {what}: {done.stderr.strip()[:2000]}")


def _compile(source: Path, target: Path, machine: str, *options: str) -> None:
    flags = [*_OPTIONS, f"-march={machine}", *options, f"-I{_NATIVE}"]
    _run([compiler(), *flags, "-c", str(source), "-o", str(target)], source.name)


def _runtime(machine: str) -> Path:
    """Return a folder with the object files of what is the same for all designs."""
    files = sorted(_NATIVE.glob("lanes*"))

    def fill(folder: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: _compile(_NATIVE / name, folder / f"{name}.o", machine, "-O3"), _RUNTIME))

    key = key_of(versions()["compiler"], _machine(), machine, *_OPTIONS, *(file.read_bytes() for file in files))
    return cached_folder(f"lanes-runtime-{key}", fill)[0]


def build_lanes(pieces: Segmentation, *, gates: bool, machine: str = "native") -> Path:
    """Return the library for a design's functions, from the cache if nothing that decides it has changed.

    Parameters
    ----------
    pieces : Segmentation
    gates : bool
        Whether results of single operations can be struck; the functions are then compiled twice.
    machine : str
        Instruction set, as in the compiler's `-march`: with AVX-512 a vector has 16 machines, with AVX2 8, otherwise 4.

    Raises
    ------
    ToolError
        If there is no C++ compiler, or it knows no such instruction set.
    """
    source = lanes_source(pieces.functions)
    runtime = _runtime(machine)

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
            functions, none = Path(scratch) / "functions.cpp", Path(scratch) / "no_strikes.cpp"
            functions.write_text(source)
            none.write_text(_NO_STRIKES)
            objects = [Path(scratch) / name for name in ("functions.o", "strikes.o")]
            jobs = [pool.submit(_compile, functions, objects[0], machine, "-O1"),
                    pool.submit(_compile, functions, objects[1], machine, "-O1", "-DSTRIKE") if gates
                    else pool.submit(_compile, none, objects[1], machine)]
            for job in jobs:
                job.result()
            _run([compiler(), "-shared", "-o", str(folder / "lanes.so"), *map(str, [*objects, *sorted(runtime.glob("*.o"))])],
                 "lanes.so")

    folder, _ = cached_folder(f"lanes-{key_of(source, gates, runtime.name)}", fill)
    return folder / "lanes.so"
