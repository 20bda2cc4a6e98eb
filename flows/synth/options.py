"""What an ASIC synthesis is asked for."""

import math
from dataclasses import dataclass
from pathlib import Path

from flows.synth.generic import GENERIC_NAME, generic_liberty
from flows.synth.liberty import Liberty, LibertyError, parse_liberty, read_liberty
from flows.toolchain import osu018_liberty

__all__ = ["AsicOptions", "load_liberty"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AsicOptions:
    """Options of `synthesize`.

    Attributes
    ----------
    liberty : str or Path
        A .lib or .lib.gz file, "osu018" (the library of Debian's qflow-tech-osu018), or "generic" (NAND2 equivalents).
    clock_ns : float
        Clock period that mapping aims at and timing is checked against.
    dont_use : tuple of str
        Globs of cells that must not be used.
    flatten : bool
        Dissolve the hierarchy first: nets are then buffered across blocks, and area by block is lost.
    macro_bits : int
        Clocked memories of at least so many bits stay SRAM macros.
    activity : float
        Transitions of each net per clock cycle, for power.
    timing : bool
        Whether to run OpenSTA where it is installed.

    Raises
    ------
    ValueError
        If a value is impossible.
    """

    liberty: str | Path = GENERIC_NAME
    clock_ns: float = 5.0
    dont_use: tuple[str, ...] = ()
    flatten: bool = False
    macro_bits: int = 4096
    activity: float = 0.1
    timing: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (math.isfinite(self.clock_ns) and self.clock_ns > 0):
            raise ValueError(f"clock period must be a positive number of ns, not {self.clock_ns!r}")
        if self.macro_bits < 1:
            raise ValueError(f"macro_bits must be at least 1, not {self.macro_bits!r}")
        if not 0 <= self.activity <= 2:
            raise ValueError(f"activity must be between 0 and 2 transitions a cycle, not {self.activity!r}")
        for glob in self.dont_use:
            if not glob or any(mark in glob for mark in " \t\n;#\"'"):
                raise ValueError(f"--dont-use must be a glob of cell names, not {glob!r}")


def load_liberty(named: str | Path) -> Liberty:
    """Return the cell library that `AsicOptions.liberty` names."""
    if str(named) == GENERIC_NAME:
        return parse_liberty(generic_liberty())
    if not str(named):
        raise LibertyError("--liberty must be a .lib or .lib.gz file, not ''")
    return read_liberty(osu018_liberty() if str(named) == "osu018" else Path(named))
