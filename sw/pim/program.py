"""A compiled kernel of a PIM: a command list for each channel, what the host sends and gets, and the DRAM that it touches.

Data lie in rows of all sets of banks in turn, then the next row, as K and V of a head do; addresses count in this order. Memory
itself is (sets, rows, bytes of a row), as banks are: `write_rows` and `read_rows` know the way.

File format (version 1): a safetensors file as those of `sw.program`, with `format` "heddle-pim-program"; tensors are
`list.<channel>` (uint64) and `region.<i>` (uint8) for each region with data. The same program gives the same bytes.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.pim.config import PimConfig
from hw.pim.isa import IMMEDIATE_LOW, IMMEDIATE_WIDTH
from sw.program import ProgramError, read_container, write_container

__all__ = [
    "PIM_PROGRAM_VERSION",
    "Memory",
    "PimProgram",
    "PimRegion",
    "PimStream",
    "grid_bytes",
    "load_pim_program",
    "read_rows",
    "save_pim_program",
    "write_rows",
]

Memory = tuple[npt.NDArray[np.uint8], ...]
"""Of each channel its DRAM, (sets of banks, rows, bytes of a row)."""
PIM_PROGRAM_VERSION = 1
FILE_FORMAT = "heddle-pim-program"
KINDS = ("x", "p", "entries", "sides", "scales")
ROLES = ("constant", "input", "scratch")


def grid_bytes(config: PimConfig) -> int:
    """Return the bytes of one row of all sets of banks that a command can name."""
    return config.named_sets * config.row_bytes


def _places(config: PimConfig, addr: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return sets and rows of `count` rows from an address on."""
    if addr % config.row_bytes:
        raise ProgramError(f"addr must be a multiple of {config.row_bytes}, a row, not {addr!r}")
    number = np.arange(count, dtype=np.int64) + addr // config.row_bytes
    sets = config.named_sets
    row = number // sets
    return config.named_row(number % sets, row)


def write_rows(config: PimConfig, memory: npt.NDArray[np.uint8], addr: int, data: npt.NDArray[np.uint8]) -> None:
    """Write whole rows, flat uint8, into one channel's memory, (sets, rows, bytes of a row), from an address on."""
    memory[_places(config, addr, len(data) // config.row_bytes)] = data.reshape(-1, config.row_bytes)


def read_rows(config: PimConfig, memory: npt.NDArray[np.uint8], addr: int, size: int) -> npt.NDArray[np.uint8]:
    """Return a copy of the whole rows that hold `size` bytes of one channel's memory from an address on, flat uint8."""
    return memory[_places(config, addr, -(-size // config.row_bytes))].reshape(-1)


def _check_types(what: "PimRegion | PimStream") -> None:
    """Refuse names that are no text and numbers that are no integers, as a file may have them."""
    for one in dataclasses.fields(what):
        value = getattr(what, one.name)
        if one.type in (int, str) and type(value) is not one.type:
            kind = "an integer" if one.type is int else "a string"
            raise ProgramError(f"{type(what).__name__}.{one.name} must be {kind}, not {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PimRegion:
    """Rows of a channel's DRAM.

    Attributes
    ----------
    name : str
    channel : int
    addr, size : int
        First byte, and bytes; whole rows.
    role : str
        "constant" (from `data`), "input" (the host writes it) or "scratch".
    data : ndarray or None
        Contents of a constant, uint8.
    """

    name: str
    channel: int
    addr: int
    size: int
    role: str
    data: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        for name, holds, rule in (("role", self.role in ROLES, f"one of {', '.join(ROLES)}"),
                                  ("channel", self.channel >= 0, "at least 0"), ("addr", self.addr >= 0, "at least 0"),
                                  ("size", self.size >= 1, "at least 1")):
            if not holds:
                raise ProgramError(f"PimRegion.{name} must be {rule}, not {getattr(self, name)!r}")
        if (self.role == "constant") != (self.data is not None):
            raise ProgramError(f"PimRegion.data must be given for constants, and only for those, not for {self.name!r}")
        if self.data is not None and (self.data.dtype != np.uint8 or self.data.shape != (self.size,)):
            found = f"{self.data.dtype} of {self.data.shape}"
            raise ProgramError(f"PimRegion.data must be uint8 of shape ({self.size},), not {found}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PimStream:
    """What the host sends to a channel, or gets from it, at one place of its list.

    Attributes
    ----------
    name : str
        Its values by name; streams of several channels may share one, which then all get the same.
    channel : int
    kind : str
        "x": slices of the X buffer, (count, X, width), float32 or codes, in the format of activations; "p": in that of
        probabilities. "entries": of the output buffer, (count, X, width) in the type of the accumulators. "sides": words of the
        side table, (count, word_bytes) uint8, of a WRS each. "scales": of as many entries, (count, G) float32, of one DQA.
    count : int
    """

    name: str
    channel: int
    kind: str
    count: int

    def __post_init__(self) -> None:
        _check_types(self)
        if self.kind not in KINDS or self.channel < 0 or self.count < 1:
            raise ProgramError(f"PimStream must have a kind of {', '.join(KINDS)}, a channel and a count, not {self!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PimProgram:
    """Command lists and everything that a device needs to run them.

    Attributes
    ----------
    name : str
    config_digest : str
        `PimConfig.digest()` of the config that it was compiled for.
    lists : tuple of ndarray
        Of each channel, uint64; empty where a channel has nothing to do.
    regions : tuple of PimRegion
        Disjoint in each channel.
    inputs, outputs : tuple of PimStream
        Those of one channel in the order in which its list takes or gives them. Outputs are entries, each name once.
    arguments : dict of str to tuple of (int, int)
        Argument → channel and index of the SETM and SETH commands whose value it is.
    """

    name: str
    config_digest: str
    lists: tuple[npt.NDArray[np.uint64], ...]
    regions: tuple[PimRegion, ...] = ()
    inputs: tuple[PimStream, ...] = ()
    outputs: tuple[PimStream, ...] = ()
    arguments: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not any(len(words) for words in self.lists) or any(w.dtype != np.uint64 or w.ndim != 1 for w in self.lists):
            found = [f"{len(words)} × {words.dtype}" for words in self.lists]
            raise ProgramError(f"PimProgram.lists must be uint64 commands of each channel, not {found}")
        named: list[PimRegion | PimStream] = [*self.regions, *self.inputs, *self.outputs]
        for what in named:
            if what.channel >= len(self.lists):
                raise ProgramError(f"{what.name!r} must be of one of {len(self.lists)} channels, not {what.channel}")
        names = [stream.name for stream in self.outputs]
        if len(set(names)) != len(names) or any(stream.kind != "entries" for stream in self.outputs):
            raise ProgramError(f"PimProgram.outputs must be entries with different names, not {names}")
        for places in self.arguments.values():
            if not all(0 <= c < len(self.lists) and 0 <= i < len(self.lists[c]) for c, i in places):
                raise ProgramError(f"PimProgram.arguments must name commands of the lists, not {self.arguments!r}")
        pieces = sorted((r.channel, r.addr, r.size, r.name) for r in self.regions)
        for (channel, addr, size, name), (other, following, _, next_name) in itertools.pairwise(pieces):
            if channel == other and addr + size > following:
                raise ProgramError(f"PimProgram.regions must be disjoint, but {name} of channel {channel} ends at "
                                   f"{addr + size:#x} and {next_name} starts at {following:#x}")

    @property
    def channels(self) -> int:
        """Channels that it is for."""
        return len(self.lists)

    def check(self, config: PimConfig, channels: int) -> None:
        """Check that the program is for this config, so many channels, and fits into their memory.

        Raises
        ------
        ProgramError
            If not; a ValueError.
        """
        if self.config_digest != config.digest():
            raise ProgramError(f"program {self.name!r} must be compiled for config {config.digest()}, not {self.config_digest}")
        if self.channels != channels:
            raise ProgramError(f"program {self.name!r} must be compiled for {channels} channels, not {self.channels}")
        end = max((region.addr + region.size for region in self.regions), default=0)
        if end > config.capacity_bytes:
            raise ProgramError(f"program {self.name!r} must fit into {config.capacity_bytes} bytes of a channel, not need {end}")

    def words(self, args: Mapping[str, int] | None = None) -> list[npt.NDArray[np.uint64]]:
        """Return the lists with the arguments in them.

        Raises
        ------
        ProgramError
            If one is missing, unknown, or not a number of 32 bits.
        """
        given = dict(args or {})
        for name in given:
            if name not in self.arguments:
                raise ProgramError(f"argument must be one of {', '.join(self.arguments) or 'none'}, not {name!r}")
        lists = [words.copy() for words in self.lists]
        mask = (1 << IMMEDIATE_WIDTH) - 1
        for name, places in self.arguments.items():
            if name not in given:
                raise ProgramError(f"argument {name!r} of program {self.name!r} must be given")
            value = given[name]
            if not 0 <= value <= mask:
                raise ProgramError(f"argument {name!r} must be between 0 and {mask}, not {value!r}")
            for channel, index in places:
                kept = int(lists[channel][index]) & ~(mask << IMMEDIATE_LOW)
                lists[channel][index] = np.uint64(kept | value << IMMEDIATE_LOW)
        return lists

    def check_streams(self, channel: int, taken: int, given: int) -> None:
        """Check that a channel's list takes and gives what its streams say, as `sw.pim.checker.check` has counted it.

        Raises
        ------
        ProgramError
            If not: the list would wait for the host, or what it gives would be lost.
        """
        for what, streams, count in (("take", self.inputs, taken), ("give", self.outputs, given)):
            said = sum(stream.count for stream in streams if stream.channel == channel)
            if said != count:
                raise ProgramError(f"the list of channel {channel} of program {self.name!r} must {what} the {said} slices and "
                                   f"entries of its streams, not {count}")

    def place(self, config: PimConfig, memory: Memory) -> None:
        """Write the constants into the memory of all channels."""
        for region in self.regions:
            if region.data is not None:
                write_rows(config, memory[region.channel], region.addr, region.data)

    def overlaps(self, other: "PimProgram") -> bool:
        """Return whether any byte belongs to both and is a constant of either: what one places the other does not find."""
        return any(a.channel == b.channel and a.addr < b.addr + b.size and b.addr < a.addr + a.size
                   for a in self.regions for b in other.regions if "constant" in (a.role, b.role))

    def host_words(self, config: PimConfig, inputs: Mapping[str, npt.NDArray[Any]] | None,
                   ) -> list[list[tuple[PimStream, npt.NDArray[Any]]]]:
        """Return of each channel what the host sends: streams and values, in the shape of their kind, in order.

        Raises
        ------
        ProgramError
            If a value is missing, unknown, or of another shape.
        """
        given = dict(inputs or {})
        known = {stream.name for stream in self.inputs}
        for name in given:
            if name not in known:
                raise ProgramError(f"input must be one of {', '.join(sorted(known)) or 'none'}, not {name!r}")
        sent: list[list[tuple[PimStream, npt.NDArray[Any]]]] = [[] for _ in self.lists]
        for stream in self.inputs:
            if stream.name not in given:
                raise ProgramError(f"input {stream.name!r} of program {self.name!r} must be given")
            kind = {"entries": config.acc, "sides": "uint8"}.get(stream.kind, "float32")
            found = np.asarray(given[stream.name])
            codes = stream.kind in ("x", "p") and found.dtype.kind == "u"
            values = found if codes else found.astype(kind)
            one = {"sides": (config.word_bytes,), "scales": (config.segments,)}.get(stream.kind, (config.rows_x, config.width))
            shape = stream.count, *one
            if values.shape != shape:
                raise ProgramError(f"input {stream.name!r} must have shape {shape}, not {values.shape}")
            sent[stream.channel].append((stream, values))
        return sent


def save_pim_program(program: PimProgram, path: str | Path) -> None:
    """Write a program to `path`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {f"list.{i}": words for i, words in enumerate(program.lists)}
    regions = []
    for i, region in enumerate(program.regions):
        if region.data is not None:
            arrays[f"region.{i}"] = np.ascontiguousarray(region.data)
        regions.append({"name": region.name, "channel": region.channel, "addr": region.addr, "size": region.size,
                        "role": region.role})
    streams = {kind: [{"name": s.name, "channel": s.channel, "kind": s.kind, "count": s.count} for s in of]
               for kind, of in (("inputs", program.inputs), ("outputs", program.outputs))}
    write_container(path, FILE_FORMAT, PIM_PROGRAM_VERSION, arrays, {"program": {
        "name": program.name, "config_digest": program.config_digest, "channels": program.channels, "regions": regions,
        **streams, "arguments": {name: [list(place) for place in places] for name, places in program.arguments.items()}}})


def load_pim_program(path: str | Path, config_digest: str | None = None) -> PimProgram:
    """Read a program; with a digest, it must be for that config.

    Raises
    ------
    ProgramError
        If the file is truncated, holds something else, is of another version or for another config.
    """
    arrays, metadata = read_container(path, FILE_FORMAT, PIM_PROGRAM_VERSION)
    try:
        fields = metadata["program"]
        program = PimProgram(
            name=fields["name"], config_digest=fields["config_digest"],
            lists=tuple(arrays[f"list.{i}"] for i in range(fields["channels"])),
            regions=tuple(PimRegion(**r, data=arrays.get(f"region.{i}")) for i, r in enumerate(fields["regions"])),
            inputs=tuple(PimStream(**s) for s in fields["inputs"]), outputs=tuple(PimStream(**s) for s in fields["outputs"]),
            arguments={name: tuple((int(c), int(i)) for c, i in places) for name, places in fields["arguments"].items()})
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProgramError(f"{path} must hold a whole program, not this: {error!r}") from None
    if config_digest is not None and program.config_digest != config_digest:
        raise ProgramError(f"{path} must be compiled for config {config_digest}, not {program.config_digest}")
    return program
