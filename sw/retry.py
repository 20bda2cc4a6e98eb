"""Runs that are repeated when the hardware notices an error of its own, where what a program overwrites allows it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.accesses import SharedMemory, accesses
from sw.device import DeviceError, ProtectionError, Result, Session
from sw.golden.branch import commands_of
from sw.layout import round_up
from sw.program import REGION_ALIGNMENT, Program
from sw.wash import wash_program

__all__ = ["RepeatError", "RetryingSession", "overwritten_inputs"]

Cells = npt.NDArray[np.int64]


class RepeatError(ProtectionError):
    """A run that the hardware broke off and that cannot be repeated, since it may have overwritten what it starts from."""


def overwritten_inputs(config: AcceleratorConfig, program: Program,
                       args: Mapping[str, int] | None = None) -> dict[SharedMemory, list[tuple[int, int]]]:
    """Return what a run reads before it has written it, and overwrites later: nothing, if it may be broken off and run again.

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program
        One that runs to its end.
    args : mapping of str to int, or None

    Returns
    -------
    dict of SharedMemory to list of (int, int)
        First cell, and the one behind the last, of each stretch: bytes of DRAM and scratchpad, rows of the accumulator.
    """
    marks = {memory: _Marks() for memory in SharedMemory}
    for event in commands_of(program, args):
        assert event.unit is not None
        touched: list[tuple[SharedMemory, bool, Cells]] = [
            (access.memory, access.write, _cells(access.first, access.counts, access.steps))
            for access in accesses(config, event.unit, event.fields) if access.memory is not SharedMemory.DRAM]
        angles = event.unit == Unit.LOAD and event.fields["stream"] and event.fields["unpack"]      # from no DRAM
        if event.unit in (Unit.LOAD, Unit.STORE) and not angles:    # to the byte, where `accesses` has beats
            block = _cells(event.fields["dram_addr"], (event.fields["rows"], event.fields["row_bytes"]),
                           (event.fields["dram_stride"], 1))
            touched.append((SharedMemory.DRAM, event.unit == Unit.STORE, block))
        for memory, write, cells in sorted(touched, key=lambda touch: touch[1]):        # a command reads before it writes
            marks[memory].touch(cells, write=write)
    return {memory: mark.stretches() for memory, mark in marks.items() if mark.stretches()}


def _cells(first: int, counts: tuple[int, ...], steps: tuple[int, ...]) -> Cells:
    cells = np.array([first], np.int64)
    for count, step in zip(counts, steps, strict=True):
        cells = (cells[:, None] + np.arange(count, dtype=np.int64) * step).ravel()
    return cells


class _Marks:
    """What has happened to each cell of a memory so far."""

    def __init__(self) -> None:
        self._flags = np.zeros((3, 0), bool)            # written; read before that; and then written

    def touch(self, cells: Cells, *, write: bool) -> None:
        missing = int(cells.max()) + 1 - self._flags.shape[1]
        if missing > 0:
            self._flags = np.pad(self._flags, ((0, 0), (0, missing + self._flags.shape[1])))
        written, read, spoiled = self._flags
        if write:
            spoiled[cells] |= read[cells]
            written[cells] = True
        else:
            read[cells] |= ~written[cells]

    def stretches(self) -> list[tuple[int, int]]:
        edges = np.flatnonzero(np.diff(self._flags[2].astype(np.int8), prepend=0, append=0))
        return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


class RetryingSession:
    """A session that runs a program again when it has stopped with an error of the hardware; implements `sw.device.Session`.

    Before each repetition every word of the accelerator's memories is written (`sw.wash`), and then the program's code and
    constants. What a run overwrites of its own inputs is worked
    out from its commands (`overwritten_inputs`): if there is nothing, it is repeated as it is. If there is and `save` is set, it
    was saved before the run, and is put back. Else the error stands, as a `RepeatError`.
    What an undetected error did before the one that was detected is not undone: protect addresses, too, that it be none.

    Parameters
    ----------
    config : AcceleratorConfig
    session : Session
    retries : int
        Repetitions of a run, at least 0.
    save : bool
        Keep what a run overwrites of its inputs in DRAM until it has succeeded.
    on : exception class, or tuple of them
        Errors that are worth a repetition; with `DeviceHang` among them, control that has gone astray too.

    Attributes
    ----------
    retries : int
        All repetitions so far; those of one run are in its counters as "retries".

    Raises
    ------
    ValueError
        If `retries` is negative.
    """

    def __init__(self, config: AcceleratorConfig, session: Session, *, retries: int, save: bool = False,
                 on: type[DeviceError] | tuple[type[DeviceError], ...] = ProtectionError):
        if retries < 0:
            raise ValueError(f"retries must be at least 0, not {retries!r}")
        self._config, self._session, self._limit, self._save, self._on = config, session, retries, save, on
        self._overwritten: dict[tuple[int, tuple[tuple[str, int], ...]], dict[SharedMemory, list[tuple[int, int]]]] = {}
        self._programs: list[Program] = []              # kept, so that their ids stay theirs
        self.retries = 0

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM, flat uint8, writable in place."""
        return self._session.memory

    def run(self, program: Program, args: Mapping[str, int] | None = None) -> Result:
        """Run `program`, again if need be; see `sw.device.Session.run`.

        Raises
        ------
        RepeatError
            If the hardware broke it off and it cannot be repeated.
        ProtectionError
            If it has been repeated as often as it may be.
        """
        saved = self._saved(program, args) if self._save and self._limit else {}
        for attempt in range(self._limit + 1):
            try:
                result = self._session.run(program, args)
            except self._on as error:
                if attempt == self._limit:
                    if attempt:
                        error.add_note(f"the run has been repeated {attempt} times")
                    raise
                self._prepare(program, args, saved, error)
                self.retries += 1
                self._wash(program)
                self._restore(program, saved)
                args = program.from_any_state(args)
            else:
                return replace(result, counters={**result.counters, "retries": attempt})
        raise AssertionError("a run ends or fails")

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _what_is_overwritten(self, program: Program, args: Mapping[str, int] | None) -> dict[SharedMemory, list[tuple[int, int]]]:
        key = id(program), tuple(sorted((args or {}).items()))
        if key not in self._overwritten:
            self._programs.append(program)
            self._overwritten[key] = overwritten_inputs(self._config, program, args)
        return self._overwritten[key]

    def _saved(self, program: Program, args: Mapping[str, int] | None) -> dict[int, npt.NDArray[np.uint8]]:
        """Return address → bytes of what the run will overwrite of its inputs in DRAM."""
        return {first: self.memory[first:end].copy()
                for first, end in self._what_is_overwritten(program, args).get(SharedMemory.DRAM, [])}

    def _prepare(self, program: Program, args: Mapping[str, int] | None, saved: Mapping[int, npt.NDArray[np.uint8]],
                 error: DeviceError) -> None:
        """Raise the error for good where the run cannot be repeated."""
        for memory, stretches in self._what_is_overwritten(program, args).items():
            if memory is SharedMemory.DRAM and self._save:
                continue
            first, end = stretches[0]
            raise RepeatError(f"{error}; it cannot be repeated, since program {program.name!r} overwrites what it has read, "
                              f"first {first:#x} to {end - 1:#x} of {memory.value}", cause=error.cause, pc=error.pc,
                              addr=error.addr, kernel=error.kernel) from error

    def _wash(self, program: Program) -> None:
        """Write the accelerator's memories, by a program in the place of the one that failed; a fault in this is none in that."""
        wash = wash_program(self._config, program.code_addr)
        end = program.code_addr + round_up(wash.code_bytes, REGION_ALIGNMENT)
        if end > len(self.memory):
            return
        kept = self.memory[program.code_addr:end].copy()
        try:
            self._session.run(wash)
        except self._on:
            pass                        # the repetition will tell
        self.memory[program.code_addr:end] = kept

    def _restore(self, program: Program, saved: Mapping[int, npt.NDArray[np.uint8]]) -> None:
        """Make DRAM what it was before the run."""
        program.place(self.memory)
        for first, data in saved.items():
            self.memory[first:first + len(data)] = data
