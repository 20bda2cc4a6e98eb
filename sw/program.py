"""A compiled kernel: instructions, the memory that they touch, and their arguments."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["PROGRAM_VERSION", "Program", "Region"]

PROGRAM_VERSION = 1
ROLES = ("input", "output", "constant", "scratch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A named piece of DRAM.

    Attributes
    ----------
    name : str
    addr, size : int
        First byte and length; `addr` is a multiple of 64.
    role : str
        "input" (the host writes it), "output" (the host reads it), "constant" (from `data`) or "scratch".
    data : ndarray or None
        Contents of a constant, uint8.
    """

    name: str
    addr: int
    size: int
    role: str
    data: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """Instructions and everything a device needs to run them.

    Attributes
    ----------
    name : str
    config_digest : str
        `AcceleratorConfig.digest()` of the config that it was compiled for.
    code : ndarray
        Instructions, uint64.
    code_addr : int
        Where the code lies in DRAM; a multiple of 64.
    regions : tuple of Region
        Disjoint, and disjoint from the code.
    arguments : dict of str to int
        Argument name → argument CSR index.
    kernels : tuple of (int, str)
        First instruction and name of each kernel, ascending; names errors.
    """

    name: str
    config_digest: str
    code: npt.NDArray[np.uint64]
    code_addr: int
    regions: tuple[Region, ...]
    arguments: dict[str, int] = field(default_factory=dict)
    kernels: tuple[tuple[int, str], ...] = ()
