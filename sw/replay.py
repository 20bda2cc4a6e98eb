"""Replay cases: a memory snapshot, a Program and its arguments in one file; and where two runs of one first differ.

File format (version 1): one safetensors file. Its metadata has one entry, `heddle`: a JSON object with `format`
("heddle-replay"), `version`, `case` (`config`, `args`, `memory_bytes`, `note`, `timing`), and `program` as a Program file has it;
its tensors are those of the Program file, and `memory`: the snapshot as a zlib stream, uint8.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.device import Device, DeviceError, Session
from sw.golden.device import GoldenDevice
from sw.golden.sequencer import Event
from sw.origin import origin_of
from sw.program import Program, ProgramError, Region, parse_parts, read_container, write_container

__all__ = ["REPLAY_VERSION", "Mismatch", "Replay", "ReplayCase", "compare", "load_case", "replay", "save_case"]

REPLAY_VERSION = 1
FILE_FORMAT = "heddle-replay"

Write = tuple[int, int, int, npt.NDArray[np.uint8]]
"""A beat that a device wrote: cycle, address, strobe (bit i: byte i counts), data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayCase:
    """All that a run depends on.

    Attributes
    ----------
    config : AcceleratorConfig
    program : Program
    args : dict of str to int
    memory : ndarray
        DRAM before the run, uint8; operands included, code and constants need not be.
    note : str
        Where it comes from, for people.
    timing : dict of str to float
        How the memory behaved: the fields of the simulator's `MemoryTiming`; empty for the default.
    """

    config: AcceleratorConfig
    program: Program
    args: Mapping[str, int]
    memory: npt.NDArray[np.uint8]
    note: str = ""
    timing: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """The first byte that is wrong, and what wrote it.

    Attributes
    ----------
    command : dict
        The store command: `index` among the run's commands, `pc`, `kernel`, and the fields of its descriptor. Empty if no
        command of the golden run writes that byte.
    tile : dict
        What the command stores: `region`, and with a layout the `batch` and the first and last `m` and `n`.
    element : dict
        `batch`, `m` and `n` of the element, or the `byte` of the region where it has no layout; and its address `addr`.
    origin : dict
        The command that put the byte into the scratchpad, where the store took it: see `sw.origin`. Empty where there is none.
    cycle : int or None
        When the device wrote the byte last; None if it did not, or has no write log.
    expected, got : int
    count : int
        Wrong bytes in all.
    """

    command: dict[str, Any]
    tile: dict[str, Any]
    element: dict[str, Any]
    origin: dict[str, Any]
    cycle: int | None
    expected: int
    got: int
    count: int


def save_case(case: ReplayCase, path: str | Path) -> None:
    """Write `case` to one file."""
    arrays, program = case.program.to_parts()
    snapshot = np.frombuffer(zlib.compress(np.ascontiguousarray(case.memory).tobytes(), 1), np.uint8)
    fields = {"config": case.config.to_dict(), "args": dict(case.args), "memory_bytes": len(case.memory), "note": case.note,
              "timing": dict(case.timing)}
    write_container(path, FILE_FORMAT, REPLAY_VERSION, {**arrays, "memory": snapshot}, {"program": program, "case": fields})


def load_case(path: str | Path) -> ReplayCase:
    """Read a replay case from a file.

    Raises
    ------
    ProgramError
        If the file is missing, truncated, holds something else, is of another version, or its parts do not fit together.
    """
    arrays, metadata = read_container(path, FILE_FORMAT, REPLAY_VERSION)
    try:
        fields = metadata["case"]
        config = AcceleratorConfig.from_dict(fields["config"])
        memory = np.frombuffer(zlib.decompress(arrays.pop("memory").tobytes()), np.uint8).copy()
        case = ReplayCase(config=config, program=parse_parts(path, arrays, metadata), args=fields["args"],
                          memory=memory, note=fields["note"], timing=fields["timing"])
        if len(memory) != fields["memory_bytes"]:
            raise ProgramError(f"memory must be {fields['memory_bytes']} bytes, not {len(memory)}")
        case.program.check(config.digest(), len(memory))
        case.program.argument_values(case.args)
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ProgramError(f"{path} must hold a whole replay case, not this: {error!r}") from None
    return case


@dataclass(kw_only=True, slots=True)
class Replay:
    """What a device made of a case.

    Attributes
    ----------
    memory : ndarray
        DRAM after the run.
    error : DeviceError or None
        How it stopped, if not at HALT.
    cycles : int
    trace : list of Event
        The commands of a golden run.
    """

    memory: npt.NDArray[np.uint8]
    error: DeviceError | None = None
    cycles: int = 0
    trace: list[Event] = field(default_factory=list)


def replay(case: ReplayCase, device: Device | Session | None = None) -> Replay:
    """Run a case.

    Parameters
    ----------
    case : ReplayCase
    device : Device, Session or None
        A device is opened for it; a session, at least as large as the snapshot, stays open. By default the golden device.
    """
    device = GoldenDevice(case.config) if device is None else device
    session: Any = device if hasattr(device, "run") else device.open(len(case.memory))
    session.memory[:len(case.memory)] = case.memory
    error, cycles = None, 0
    try:
        cycles = session.run(case.program, case.args).cycles
    except DeviceError as found:
        error = found
    result = Replay(memory=session.memory[:len(case.memory)].copy(), error=error, cycles=cycles,
                    trace=list(getattr(session, "trace", [])))
    if session is not device:
        session.close()
    return result


# Where two runs first differ ------------------------------------------------------------------------------------


def compare(case: ReplayCase, golden: Replay, got: npt.NDArray[np.uint8], writes: Iterable[Write] = ()) -> Mismatch | None:
    """Return the first wrong byte of a run, or None if there is none.

    First is what the earliest store command (in program order) writes, and of that the lowest address.

    Parameters
    ----------
    case : ReplayCase
    golden : Replay
        Of the golden device.
    got : ndarray
        The other device's memory after its run, uint8.
    writes : iterable of (cycle, addr, strobe, data)
        The other device's write log.
    """
    size = min(len(golden.memory), len(got))
    wrong = np.flatnonzero(golden.memory[:size] != got[:size])
    if wrong.size == 0:
        return None
    stores = [(index, event) for index, event in enumerate(golden.trace) if event.unit == Unit.STORE]
    owner = np.full(size, len(stores), np.int64)
    for number, (_, event) in enumerate(stores):
        for start, end in _rows(event.fields):
            owner[start:end] = number
    first = int(wrong[np.argmin(owner[wrong])])
    command: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    span = (first, first)
    if owner[first] < len(stores):
        index, event = stores[owner[first]]
        command = {"index": index, "pc": event.pc, "kernel": case.program.kernel_at(event.pc), **event.fields}
        rows = _rows(event.fields)
        span = rows[0][0], rows[-1][1] - 1
        row = max(i for i, (start, end) in enumerate(rows) if start <= first < end)
        byte = event.fields["addr"] + row * event.fields["stride"] + first - rows[row][0]
        origin = origin_of(case.config, case.program, golden.trace[:index], byte)
    region, offset = _region_of(case, first)
    element: dict[str, Any] = {"addr": first}
    tile: dict[str, Any] = {} if region is None else {"region": region.name}
    if region is not None and region.layout is not None:
        element |= _element(region, offset)
        corners = [region.layout.locate(offset + byte - first) for byte in span]
        if corners[0] is not None:
            last = corners[1] or (corners[0][0], region.layout.rows - 1, region.layout.columns - 1)
            tile |= {"batch": corners[0][0], "m": [corners[0][1], last[1]], "n": [corners[0][2], last[2]]}
    elif region is not None:
        element["byte"] = offset
    return Mismatch(command=command, tile=tile, element=element, origin=origin, cycle=_written_at(first, writes),
                    expected=int(golden.memory[first]), got=int(got[first]), count=int(wrong.size))


def _rows(fields: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return the first byte of each DRAM row of a store, and the byte after its last."""
    starts = [fields["dram_addr"] + i * fields["dram_stride"] for i in range(fields["rows"])]
    return [(start, start + fields["row_bytes"]) for start in starts]


def _region_of(case: ReplayCase, addr: int) -> tuple[Region | None, int]:
    """Return the region of an address, and the offset in it; an argument of a region's name says where that region is."""
    for region in case.program.regions:
        base = case.args.get(region.name, region.addr)
        if base <= addr < base + region.size:
            return region, addr - base
    return None, 0


def _element(region: Region, offset: int) -> dict[str, int]:
    assert region.layout is not None
    place = region.layout.locate(offset)
    return {"byte": offset} if place is None else dict(zip(("batch", "m", "n"), place, strict=True))


def _written_at(addr: int, writes: Iterable[Write]) -> int | None:
    """Return the cycle of the last write to a byte."""
    found = None
    for cycle, start, strobe, _ in writes:
        if start <= addr < start + 64 and int(strobe) >> (addr - int(start)) & 1:
            found = int(cycle)
    return found
