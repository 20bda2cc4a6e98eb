"""A compiled kernel: instructions, the memory that they touch, and their arguments.

File format (version 1): one safetensors file. Its metadata has one entry, `heddle`: a JSON object with `format`
("heddle-program"), `version`, and `program`, every field but the arrays; its tensors are `code` (uint64) and `region.<i>`
(uint8) for each region with data. The same program gives the same bytes.
"""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hw.isa import ARGUMENTS, INSTRUCTION_BYTES
from sw.layout import MatrixLayout

__all__ = [
    "PROGRAM_VERSION", "RESYNC", "Program", "ProgramError", "Region", "load_program", "parse_parts", "read_container",
    "save_program", "write_container",
]

PROGRAM_VERSION = 1
FILE_FORMAT = "heddle-program"
METADATA_KEY = "heddle"
ROLES = ("input", "output", "constant", "scratch")
REGION_ALIGNMENT = 64
ADDRESS_SPACE = 1 << 32
RESYNC = "resync"
"""Argument of programs that take the angles of a position from the load unit's source of angles: 1 sets that to their position
first, 0 takes what the run of the position before has left there."""


class ProgramError(ValueError):
    """A Program that cannot be, or a file that does not hold one."""


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
    layout : MatrixLayout or None
        How a matrix lies in it, where it holds one.
    """

    name: str
    addr: int
    size: int
    role: str
    data: npt.NDArray[np.uint8] | None = None
    layout: MatrixLayout | None = None

    def __post_init__(self) -> None:
        self._must("role", self.role in ROLES, f"one of {', '.join(ROLES)}")
        self._must("addr", self.addr >= 0 and self.addr % REGION_ALIGNMENT == 0, f"a multiple of {REGION_ALIGNMENT}")
        self._must("size", 1 <= self.size <= ADDRESS_SPACE - self.addr, "at least 1 and end within 32 bits of address")
        if self.role == "constant" and self.data is None:
            raise ProgramError(f"Region.data must be the contents of constant {self.name!r}, not None")
        if self.data is not None and (self.data.dtype != np.uint8 or self.data.shape != (self.size,)):
            raise ProgramError(f"Region.data must be uint8 of shape ({self.size},), not {self.data.dtype} of {self.data.shape}")
        if self.layout is not None and self.layout.size > self.size:
            raise ProgramError(f"Region.size must be at least {self.layout.size} (its layout), not {self.size}")

    def _must(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ProgramError(f"Region.{name} must be {rule}, not {getattr(self, name)!r}")


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
    parity : bool
        Instructions have check bits (`hw.isa`).
    """

    name: str
    config_digest: str
    code: npt.NDArray[np.uint64]
    code_addr: int
    regions: tuple[Region, ...]
    arguments: dict[str, int] = field(default_factory=dict)
    kernels: tuple[tuple[int, str], ...] = ()
    parity: bool = False

    def __post_init__(self) -> None:
        if self.code.dtype != np.uint64 or self.code.ndim != 1 or self.code.size == 0:
            raise ProgramError(f"Program.code must be uint64 instructions, not {self.code.dtype} of shape {self.code.shape}")
        if self.code_addr < 0 or self.code_addr % REGION_ALIGNMENT:
            raise ProgramError(f"Program.code_addr must be a multiple of {REGION_ALIGNMENT}, not {self.code_addr!r}")
        if self.code_addr + self.code_bytes > ADDRESS_SPACE:
            raise ProgramError(f"Program.code must end within 32 bits of address, not at {self.code_addr + self.code_bytes:#x}")
        names = [region.name for region in self.regions]
        if len(set(names)) != len(names):
            raise ProgramError(f"Program.regions must have different names, not {names}")
        indices = list(self.arguments.values())
        if len(set(indices)) != len(indices) or not all(0 <= i < ARGUMENTS for i in indices):
            raise ProgramError(f"Program.arguments must be different indices below {ARGUMENTS}, not {self.arguments!r}")
        pieces = sorted([(r.addr, r.size, r.name) for r in self.regions] + [(self.code_addr, self.code_bytes, "the code")])
        for (addr, size, name), (next_addr, _, next_name) in itertools.pairwise(pieces):
            if addr + size > next_addr:
                raise ProgramError(f"Program.regions must be disjoint, but {name} ends at {addr + size:#x} "
                                   f"and {next_name} starts at {next_addr:#x}")

    @property
    def code_bytes(self) -> int:
        """Bytes of the code."""
        return INSTRUCTION_BYTES * len(self.code)

    @property
    def memory_bytes(self) -> int:
        """Least DRAM that holds the code and every region, in bytes; a multiple of 64, since code is fetched in such lines."""
        end = max([self.code_addr + self.code_bytes, *(region.addr + region.size for region in self.regions)])
        return -(-end // REGION_ALIGNMENT) * REGION_ALIGNMENT

    def region(self, name: str) -> Region:
        """Return the region called `name`."""
        for region in self.regions:
            if region.name == name:
                return region
        raise ProgramError(f"region must be one of {', '.join(r.name for r in self.regions)}, not {name!r}")

    def kernel_at(self, pc: int) -> str:
        """Return the name of the kernel that instruction `pc` belongs to, else the program's name."""
        found = self.name
        for first, name in self.kernels:
            if first > pc:
                break
            found = name
        return found

    def check(self, config_digest: str, memory_bytes: int) -> None:
        """Check that the program is for this config and fits into this memory.

        Raises
        ------
        ProgramError
            If not; a ValueError.
        """
        if self.config_digest != config_digest:
            raise ProgramError(f"program {self.name!r} must be compiled for config {config_digest}, not {self.config_digest}")
        if self.memory_bytes > memory_bytes:
            raise ProgramError(f"program {self.name!r} must fit into {memory_bytes} bytes of memory, "
                               f"not need {self.memory_bytes}")

    def argument_values(self, args: Mapping[str, int] | None) -> dict[int, int]:
        """Return argument CSR index → value for every argument of the program.

        Raises
        ------
        ProgramError
            If one is missing, unknown, or not a number of 32 bits.
        """
        given = dict(args or {})
        for name in given:
            if name not in self.arguments:
                raise ProgramError(f"argument must be one of {', '.join(self.arguments) or 'none'}, not {name!r}")
        for name in self.arguments:
            if name not in given:
                raise ProgramError(f"argument {name!r} of program {self.name!r} must be given")
            if not 0 <= given[name] < ADDRESS_SPACE:
                raise ProgramError(f"argument {name!r} must be between 0 and {ADDRESS_SPACE - 1}, not {given[name]!r}")
        return {index: int(given[name]) for name, index in self.arguments.items()}

    def from_any_state(self, args: Mapping[str, int] | None) -> dict[str, int]:
        """Return arguments for the same run that takes nothing from the run before it: with `RESYNC`, where there is that."""
        return dict(args or {}) | ({RESYNC: 1} if RESYNC in self.arguments else {})

    def place(self, memory: npt.NDArray[np.uint8]) -> None:
        """Write code and constants into `memory`, flat uint8."""
        memory[self.code_addr:self.code_addr + self.code_bytes] = self.code.astype("<u8").view(np.uint8)
        for region in self.regions:
            if region.role == "constant" and region.data is not None:
                memory[region.addr:region.addr + region.size] = region.data

    def overlaps(self, other: "Program") -> bool:
        """Return whether the programs get in each other's way: whether any byte belongs to both.

        A region that both have under the same name, at the same place and not as a constant, is memory that they share: what one
        leaves there the other is meant to find.
        """
        shared = {(r.name, r.addr, r.size) for r in self.regions if r.role != "constant"} & {
            (r.name, r.addr, r.size) for r in other.regions if r.role != "constant"}
        mine, theirs = ([(f"code of {p.name}", p.code_addr, p.code_bytes), *((r.name, r.addr, r.size) for r in p.regions)]
                        for p in (self, other))
        return any(one[1] < two[1] + two[2] and two[1] < one[1] + one[2]
                   for one in mine for two in theirs if one != two or one not in shared)

    def read_outputs(self, memory: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.uint8]]:
        """Return a copy of each output region in `memory`, flat uint8."""
        return {r.name: memory[r.addr:r.addr + r.size].copy() for r in self.regions if r.role == "output"}

    def to_parts(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return the arrays by tensor name, and the rest as plain JSON types."""
        arrays: dict[str, npt.NDArray[Any]] = {"code": self.code}
        regions = []
        for i, region in enumerate(self.regions):
            if region.data is not None:
                arrays[f"region.{i}"] = np.ascontiguousarray(region.data)
            regions.append({"name": region.name, "addr": region.addr, "size": region.size, "role": region.role,
                            "layout": None if region.layout is None else region.layout.to_dict()})
        return arrays, {"name": self.name, "config_digest": self.config_digest, "code_addr": self.code_addr, "regions": regions,
                        "arguments": self.arguments, "kernels": [list(kernel) for kernel in self.kernels],
                        **({"parity": True} if self.parity else {})}

    @classmethod
    def from_parts(cls, arrays: Mapping[str, npt.NDArray[Any]], fields: Mapping[str, Any]) -> "Program":
        """Build a Program from what `to_parts` gives."""
        regions = tuple(
            Region(name=r["name"], addr=r["addr"], size=r["size"], role=r["role"], data=arrays.get(f"region.{i}"),
                   layout=None if r["layout"] is None else MatrixLayout.from_dict(r["layout"]))
            for i, r in enumerate(fields["regions"]))
        return cls(name=fields["name"], config_digest=fields["config_digest"], code=arrays["code"],
                   code_addr=fields["code_addr"], regions=regions, arguments=dict(fields["arguments"]),
                   kernels=tuple((int(first), str(name)) for first, name in fields["kernels"]),
                   parity=bool(fields.get("parity", False)))


def save_program(program: Program, path: str | Path) -> None:
    """Write `program` to one file."""
    arrays, fields = program.to_parts()
    write_container(path, FILE_FORMAT, PROGRAM_VERSION, arrays, {"program": fields})


def load_program(path: str | Path, config_digest: str | None = None) -> Program:
    """Read a Program from a file.

    Parameters
    ----------
    path : str or Path
    config_digest : str or None
        If given, the program must be for the config of this digest.

    Raises
    ------
    ProgramError
        If the file is truncated, holds something else, is of another version or for another config.
    """
    arrays, metadata = read_container(path, FILE_FORMAT, PROGRAM_VERSION)
    program = parse_parts(path, arrays, metadata)
    if config_digest is not None and program.config_digest != config_digest:
        raise ProgramError(f"{path} must be compiled for config {config_digest}, not {program.config_digest}")
    return program


def parse_parts(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any]) -> Program:
    """Return the Program in the parts of the file `path`; anything missing is a ProgramError that names the file."""
    try:
        return Program.from_parts(arrays, metadata["program"])
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProgramError(f"{path} must hold a whole program, not this: {error!r}") from None


def write_container(path: str | Path, file_format: str, version: int, arrays: dict[str, npt.NDArray[Any]],
                    parts: Mapping[str, Any]) -> None:
    """Write one of our safetensors files, whole or not at all; `parts` are plain JSON types.

    Raises
    ------
    OSError
        If the file cannot be written; the text names it.
    """
    header = json.dumps({"format": file_format, "version": version, **parts}, sort_keys=True)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} must lie in a folder that exists")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")           # in the same folder, so that the move is atomic
    try:
        save_file(arrays, part, metadata={METADATA_KEY: header})
        os.replace(part, path)
    except SafetensorError as error:            # what the system refused; types are those of our own arrays
        part.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_container(path: str | Path, file_format: str, version: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata of one of our safetensors files, its format and version checked.

    Raises
    ------
    ProgramError
        If the file is missing, truncated, of another format or of another version.
    """
    if not Path(path).is_file():
        raise ProgramError(f"{path} must be a {file_format} file, but there is none")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            found = metadata.get("format")
            if found != file_format:
                raise ProgramError(f"{path} must be a {file_format} file, not {found or 'another safetensors file'}")
            if metadata.get("version") != version:
                raise ProgramError(f"{path} must be of version {version}, not {metadata.get('version')}")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except ProgramError:
        raise
    except (SafetensorError, ValueError, AttributeError) as error:
        raise ProgramError(f"{path} must be a whole {file_format} file, not a truncated or foreign one ({error})") from None
