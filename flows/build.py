"""Native simulators: Verilog to a shared library that `flows.native_sim` loads."""

from dataclasses import dataclass
from pathlib import Path

from flows.verilated import VARIANTS, build_model, check_options

__all__ = ["NativeBuild", "build_native"]

_NATIVE = Path(__file__).with_name("native")


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
    """

    library: Path
    snapshots: bool
    waves: str | None
    fresh: bool


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
        A key of `flows.verilated.VARIANTS`.
    waves : str or None
        A key of `flows.verilated.WAVES`: the model can write such files, and is slower.
    label : str
        Goes into the folder's name, for people.

    Raises
    ------
    ToolError
        If a tool is missing or refuses the source.
    """
    check_options(variant, waves)
    how = VARIANTS[variant]
    library, fresh = build_model(
        "native", f"{label}-{variant}", verilog, top, variant=variant, waves=waves, vpi=False, control="",
        main=_NATIVE / "harness.cpp", companions=(_NATIVE / "memory.h",),
        defines=(f"-DHEDDLE_BUS_BYTES={bus_width // 8}", *(("-DHEDDLE_SNAPSHOTS",) if how.flat else ())),
        link=("-shared", "-Wl,-Bsymbolic"), output="libmodel.so")
    return NativeBuild(library=library, snapshots=how.flat, waves=waves, fresh=fresh)
