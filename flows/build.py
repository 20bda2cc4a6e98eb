"""Native simulators: Verilog to a shared library that `flows.native_sim` loads."""

from dataclasses import dataclass
from pathlib import Path

from flows.verilated import build_model, check_waves

__all__ = ["TRACED", "NativeBuild", "build_native"]

_NATIVE = Path(__file__).with_name("native")
_UNITS = ("load", "matrix", "vector", "store")

TRACED = {
    "controller": (
        "supervisor__busy", "supervisor__run", "supervisor__error", "semaphores__counts", "load_beat", "matrix_active",
        "vector_write", "store_beat", "fetch__busy", "fetch__beat", "fetch__instruction__hit", "fetch__instruction__pc",
        *(f"sequencer__{name}" for name in ("pc", "executed", "waiting", "starting", "acquire__mask")),
        *(f"{unit}__{name}" for unit in _UNITS for name in ("busy", "done", "command__valid", "command__ready")),
        *(f"{unit}_queue__{name}" for unit in _UNITS
          for name in ("i__valid", "i__ready", "waiting", "count", "acquire__mask", "oldest_pc")),
    ),
}
"""Block → signals that a traced model makes public; `flows/native/trace.h` reads them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeBuild:
    """A simulator that `flows.native_sim` can load.

    Attributes
    ----------
    library : Path
    waves : str or None
        Suffix of the wave files that it can write.
    fresh : bool
        Made by this call, not found.
    trace : bool
        Whether it can record what the units do.
    """

    library: Path
    waves: str | None
    fresh: bool
    trace: bool = False


def _trace_control(top: str) -> str:
    """Return the lines of a Verilator control file that make the traced signals members of the model's root."""
    lines = []
    for block, names in TRACED.items():
        lines.append(f'inline -module "{top}_{block}"\n')
        lines += [f'public_flat_rd -module "{top}_{block}" -var "{name}"\n' for name in names]
    return "".join(lines)


def build_native(verilog: str, top: str, *, bus_width: int, waves: str | None = None, label: str = "model",
                 trace: bool = False) -> NativeBuild:
    """Make the native simulator of a design with the accelerator's ports, or find it in the cache.

    Parameters
    ----------
    verilog : str
        Source text.
    top : str
        Its top module.
    bus_width : int
        Bits of the AXI4 master.
    waves : str or None
        A key of `flows.verilated.WAVES`: the model can write such files, and is slower.
    label : str
        Goes into the folder's name, for people.
    trace : bool
        The model can record what the units do, and is slower; the top module must be an accelerator called "heddle".

    Raises
    ------
    ToolError
        If a tool is missing or refuses the source.
    """
    check_waves(waves)
    library, fresh = build_model(
        "native", label, verilog, top, waves=waves, vpi=False,
        control=_trace_control(top) if trace else "", main=_NATIVE / "harness.cpp",
        companions=(_NATIVE / "memory.h", *((_NATIVE / "trace.h",) if trace else ())),
        defines=(f"-DHEDDLE_BUS_BYTES={bus_width // 8}", *(("-DHEDDLE_TRACE",) if trace else ())),
        link=("-shared", "-Wl,-Bsymbolic"), output="libmodel.so")
    return NativeBuild(library=library, waves=waves, fresh=fresh, trace=trace)
