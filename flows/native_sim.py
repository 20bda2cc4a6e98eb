"""A native simulator in this process: the model and its memory behind a few methods, no VPI."""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.build import NativeBuild

__all__ = ["RESPONSES", "TRACE_EVENT", "WRITE_RECORD", "BusError", "MemoryTiming", "NativeSim", "NativeSnapshot"]

RESPONSES = {"OKAY": 0, "SLVERR": 2, "DECERR": 3}

WRITE_RECORD = np.dtype([("cycle", "<u8"), ("addr", "<u8"), ("strobe", "<u8"), ("data", "u1", 64)])
"""One beat that the design wrote: bit i of `strobe` says that byte i of `data` was written to `addr` + i."""

TRACE_EVENT = np.dtype([("cycle", "<u8"), ("channel", "<u2"), ("mask", "<u2"), ("value", "<u4")])
"""One event of a traced run; `flows/native/trace.h` says what the channels tell."""

_LIMIT, _INTERRUPT, _VIOLATION = range(3)
_LITE_TIMED_OUT, _LITE_VIOLATION = -1, -2


class BusError(RuntimeError):
    """The design broke a rule of a bus, or did not answer; the text says which rule and in which cycle."""


class _Timing(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint64), ("latency", ctypes.c_uint32), ("bandwidth", ctypes.c_uint32),
                ("stall", ctypes.c_uint32), ("interleave", ctypes.c_uint32)]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryTiming:
    """How the memory behind the AXI4 master behaves.

    Attributes
    ----------
    latency : int
        Cycles from the handshake of a read address to its first beat, and from the last beat of a write to its response; from 1.
    bandwidth : float
        Beats per cycle in each direction, 2**-16 to 1.
    stall : float
        Probability, at most 0.95, with which each channel holds back in a cycle in which it need not; the AXI4-Lite
        master does so too.
    seed : int
        Of every random choice.
    """

    latency: int = 32
    bandwidth: float = 1.0
    stall: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, holds, rule in (
            ("latency", isinstance(self.latency, int) and 1 <= self.latency <= 1_000_000, "an integer between 1 and 1000000"),
            ("bandwidth", 2**-16 <= self.bandwidth <= 1, "between 2**-16 and 1 (beats per cycle)"),
            ("stall", 0 <= self.stall <= 0.95, "between 0 and 0.95 (a probability)"),
            ("seed", isinstance(self.seed, int) and 0 <= self.seed < 2**64, "an integer between 0 and 2**64 - 1"),
        ):
            if not holds:
                raise ValueError(f"MemoryTiming.{name} must be {rule}, not {getattr(self, name)!r}")

    def _native(self) -> _Timing:
        return _Timing(self.seed, self.latency, round(self.bandwidth * 65536), int(self.stall * 2**32), self.stall > 0)


class NativeSnapshot:
    """The whole state of a simulation: registers, memories of the design, bus transactions in flight, DRAM."""

    def __init__(self, library: Any, pointer: int):
        self._library, self.pointer = library, pointer

    @property
    def state(self) -> npt.NDArray[np.uint8]:
        """The model's variables, uint8, while this snapshot lives: what is changed here is so after `NativeSim.restore`."""
        size = ctypes.c_uint64()
        first = self._library.heddle_state(self.pointer, ctypes.byref(size))
        return np.ctypeslib.as_array(ctypes.cast(first, ctypes.POINTER(ctypes.c_uint8)), (size.value,))

    def __del__(self) -> None:
        self._library.heddle_free_snapshot(self.pointer)


_API: dict[str, tuple[Any, list[Any]]] = {
    "create": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(_Timing)]),
    "destroy": (None, [ctypes.c_void_p]),
    "reset": (None, [ctypes.c_void_p]),
    "configure": (None, [ctypes.c_void_p, ctypes.POINTER(_Timing)]),
    "run": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint64]),
    "write": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32]),
    "read": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)]),
    "cycle": (ctypes.c_uint64, [ctypes.c_void_p]),
    "beats": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_int]),
    "violation": (ctypes.c_char_p, [ctypes.c_void_p]),
    "inject": (None, [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int, ctypes.c_int, ctypes.c_int]),
    "clear_injections": (None, [ctypes.c_void_p]),
    "log": (None, [ctypes.c_void_p, ctypes.c_int]),
    "log_size": (ctypes.c_uint64, [ctypes.c_void_p]),
    "log_data": (ctypes.c_void_p, [ctypes.c_void_p]),
    "waves": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]),
    "snapshot": (ctypes.c_void_p, [ctypes.c_void_p]),
    "state": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64)]),
    "restore": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "free_snapshot": (None, [ctypes.c_void_p]),
}
_TRACE_API: dict[str, tuple[Any, list[Any]]] = {
    "trace": (None, [ctypes.c_void_p, ctypes.c_int]),
    "trace_size": (ctypes.c_uint64, [ctypes.c_void_p]),
    "trace_data": (ctypes.c_void_p, [ctypes.c_void_p]),
}


def _load(build: NativeBuild) -> ctypes.CDLL:
    library = ctypes.CDLL(str(build.library))
    api = {**_API, **(_TRACE_API if build.trace else {})}
    for name, (result, arguments) in api.items():
        function = getattr(library, f"heddle_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class NativeSim:
    """One instance of a model, reset and with zeroed memory.

    Parameters
    ----------
    build : NativeBuild
        From `flows.build.build_native`.
    memory_bytes : int
        DRAM behind the AXI4 master, from address 0; beyond it the memory answers DECERR.
    timing : MemoryTiming

    Attributes
    ----------
    memory : ndarray, uint8, shape (memory_bytes,)
        The DRAM itself: what either side writes the other sees.
    """

    def __init__(self, build: NativeBuild, memory_bytes: int, timing: MemoryTiming | None = None):
        self.build = build
        self.memory: npt.NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self._library = _load(build)
        self._handle: int | None = self._library.heddle_create(
            self.memory.ctypes.data, memory_bytes, (timing or MemoryTiming())._native())

    def close(self) -> None:
        """Free the model; waves are written to their end."""
        if self._handle is not None:
            self._library.heddle_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> "NativeSim":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._handle is None:
            raise ValueError("the simulation is closed")
        return getattr(self._library, f"heddle_{name}")(self._handle, *arguments)

    @property
    def cycle(self) -> int:
        """Cycles since the beginning, reset included."""
        return int(self._call("cycle"))

    @property
    def read_beats(self) -> int:
        """Read beats that the design has taken."""
        return int(self._call("beats", 0))

    @property
    def write_beats(self) -> int:
        """Write beats that the memory has taken."""
        return int(self._call("beats", 1))

    def configure(self, timing: MemoryTiming) -> None:
        """Change the memory's timing and restart its random choices; requests in flight keep their times."""
        self._call("configure", timing._native())

    def reset(self) -> None:
        """Hold reset for a few cycles."""
        self._call("reset")

    def run(self, cycles: int) -> bool:
        """Run until the interrupt is high, but at most `cycles` cycles; return whether it is.

        Raises
        ------
        BusError
            If the design breaks a rule of AXI4; it does not run on after that.
        """
        stop = self._call("run", cycles)
        if stop == _VIOLATION:
            self._raise_violation()
        return bool(stop == _INTERRUPT)

    def _raise_violation(self) -> None:
        raise BusError(f"bus rule broken: {self._call('violation').decode()}")

    def _check_lite(self, status: int, what: str) -> None:
        if status == _LITE_VIOLATION:
            self._raise_violation()
        if status == _LITE_TIMED_OUT:
            raise BusError(f"{what}: no answer on the AXI4-Lite port within 10000 cycles")
        if status != RESPONSES["OKAY"]:
            names = {code: name for name, code in RESPONSES.items()}
            raise BusError(f"{what}: answered {names.get(status, status)}")

    def write(self, addr: int, value: int) -> None:
        """Write a 32-bit register."""
        self._check_lite(self._call("write", addr, value & 0xFFFF_FFFF), f"write of register 0x{addr:03X}")

    def read(self, addr: int) -> int:
        """Return a 32-bit register."""
        value = ctypes.c_uint32()
        self._check_lite(self._call("read", addr, ctypes.byref(value)), f"read of register 0x{addr:03X}")
        return value.value

    def inject(self, first: int, last: int, *, response: str = "SLVERR", reads: bool = True, writes: bool = True) -> None:
        """Answer every beat that touches bytes `first` to `last` with an error; such writes change nothing."""
        self._call("inject", first, last, reads, writes, RESPONSES[response])

    def clear_injections(self) -> None:
        """Answer normally again."""
        self._call("clear_injections")

    def log_writes(self, enable: bool = True) -> None:
        """Empty the log of written beats, and fill it from now on or not."""
        self._call("log", enable)

    def written(self) -> npt.NDArray[np.void]:
        """Return the logged beats in order, as a copy of dtype `WRITE_RECORD`."""
        return self._records("log", WRITE_RECORD)

    def _records(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[np.void]:
        """Return a copy of the records that `name` has collected."""
        size = int(self._call(f"{name}_size"))
        if size == 0:
            return np.zeros(0, dtype)
        return np.frombuffer(ctypes.string_at(self._call(f"{name}_data"), size * dtype.itemsize), dtype).copy()

    def trace(self, enable: bool = True) -> None:
        """Forget the events of the units, and collect them from now on or not.

        Raises
        ------
        ValueError
            If the model was built without.
        """
        if not self.build.trace:
            raise ValueError("tracing needs a model whose handshakes are public: build it with trace=True")
        self._call("trace", enable)

    def traced(self) -> npt.NDArray[np.void]:
        """Return the events in order, as a copy of dtype `TRACE_EVENT`; none if nothing is traced."""
        return self._records("trace", TRACE_EVENT) if self.build.trace else np.zeros(0, TRACE_EVENT)

    def waves(self, file: Path | str | None) -> None:
        """Record every signal into `file` from now on; None ends the recording.

        Raises
        ------
        ValueError
            If the model was built without waves of that kind.
        OSError
            If the file cannot be written.
        """
        if file is not None and Path(file).suffix != self.build.waves:
            raise ValueError(f"this model writes {self.build.waves or 'no'} waves, not {str(file)!r}")
        if not self._call("waves", None if file is None else str(file).encode()) and file is not None:
            raise OSError(f"cannot write waves to {str(file)!r}")

    def snapshot(self) -> NativeSnapshot:
        """Return a copy of the whole state, DRAM included."""
        return NativeSnapshot(self._library, self._call("snapshot"))

    def restore(self, snapshot: NativeSnapshot) -> None:
        """Go back to `snapshot`, taken from a simulation of the same build and memory size."""
        self._call("restore", snapshot.pointer)
