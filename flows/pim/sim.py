"""One pseudo-channel of a PIM in this process: its Verilog in Verilator, timing-checked DRAM behind it, command lists in.

Sessions of one configuration share a library and nothing else, so several of them are several channels; `run` leaves Python's
lock, so they can run in threads.

>>> from hw.pim.presets import PIM_PRESETS
>>> from flows.pim.sim import PimSim
>>> from sw.pim.assembler import assemble
>>> with PimSim(PIM_PRESETS["pim-tiny"]).open() as session:
...     session.run(assemble("eoc")).host_out.shape
(0, 32)
"""

import ctypes
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.pim.dram import DRAM_DEFINES, DRAM_HEADER, DramConfigStruct, DramTables, ViolationStruct
from flows.pim.emit import COMMANDS, PimEmission, emit_pim
from flows.pim.trace import EVENT
from flows.pim.wrapper import COUNTERS, TOP, wrapper_of
from flows.verilated import build_model, check_waves
from hw.pim.config import PimConfig
from hw.pim.isa import PimErrorCause
from hw.pim.timing_tables import DramCommand
from sw.pim.dram import DramViolation

__all__ = [
    "ONCE_OPTIONS", "WATCHDOG_CYCLES", "PimHang", "PimListError", "PimRun", "PimSession", "PimSim", "once_each",
]

Bytes = npt.NDArray[np.uint8]
WATCHDOG_CYCLES = 200_000
"""Cycles without a host word, a burst or a product after which a list counts as hung."""
_DONE, _HANG, _DRAM, _STREAM, _MODEL = range(5)
_SHARED = re.compile(r"^module (pim_\w+)\((.*?)\);", re.MULTILINE | re.DOTALL)
_INPUT = re.compile(r"input +wire +(?:\[[^]]*\] +)?(\w+)")
ONCE_OPTIONS = ("-fno-dfg",)
"""Options of Verilator that go with `once_each`."""

class PimListError(RuntimeError):
    """A command list stopped with an error.

    Attributes
    ----------
    cause : PimErrorCause
    index : int
        Word of the list at which it stopped.
    """

    def __init__(self, cause: PimErrorCause, index: int):
        super().__init__(f"the list stopped at word {index}: {cause.name}")
        self.cause, self.index = cause, index


class PimHang(RuntimeError):
    """A command list came to no end; the text says what it waits for."""


class _Host(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint64), ("patience", ctypes.c_uint64), ("stall", ctypes.c_uint32)]


class _Run(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_uint64) for name in ("cycles", *COUNTERS, "taken", "given")),
                *((name, ctypes.c_int64) for name in ("first_read", "last_read")),
                *((name, ctypes.c_int32) for name in ("stop", "error", "index", "misuse", "waits_for_word"))]


@dataclass(frozen=True, kw_only=True, slots=True)
class PimRun:
    """What a list did.

    Attributes
    ----------
    host_out : (words, word_bytes) uint8
        Host words that came, in order.
    cycles : int
        PIM cycles from the start to the end.
    counters : dict of str to int
        Of `cycles`: `active`, those in which a beat was multiplied; `stall_row`, `stall_refresh`, `stall_credit`,
        `stall_hazard`, see `hw.pim.channel`. Then `host_words_in`, `host_words_out`, and `read_clocks`: DRAM clocks from the
        first burst that was read to an interval behind the last one, 0 without any.
    dram : Counter of DramCommand
        Banks that each command touched.
    events : ndarray of `flows.pim.trace.EVENT`
        What happened in which cycle, where the simulator is traced; else none.
    """

    host_out: Bytes
    cycles: int
    counters: dict[str, int]
    dram: Counter[DramCommand]
    events: npt.NDArray[np.void]


def once_each(verilog: str) -> str:
    """Return a control file by which blocks with hundreds of instances (`hw.share`) are compiled once each, as functions.

    Verilator tells instances apart where it replaces an input by what drives it, or optimizes across them: so inputs are kept,
    and its data flow graph is off. Full size is compiled so in minutes, not in hours.
    """
    lines = ['no_inline -module "pim_*"\n']
    for module, ports in _SHARED.findall(verilog):
        lines += [f'public_flat_rd -module "{module}" -var "{name}"\n' for name in _INPUT.findall(ports)
                  if name not in ("clk", "rst")]
    return "".join(lines)


class PimSim:
    """The RTL of one pseudo-channel; emitted and built when a session is first opened.

    Parameters
    ----------
    config : PimConfig
    commands : int
        Words of the list memory, a power of two.
    traced : bool
        Runs have events (`PimRun.events`).
    waves : str or None
        Suffix of wave files that sessions can write, a key of `flows.verilated.WAVES`.
    """

    def __init__(self, config: PimConfig, *, commands: int = COMMANDS, traced: bool = False, waves: str | None = None):
        check_waves(waves)
        self.config, self.commands, self.traced, self.waves = config, commands, traced, waves

    @cached_property
    def emission(self) -> PimEmission:
        """The Verilog."""
        return emit_pim(self.config, commands=self.commands)

    @cached_property
    def library(self) -> ctypes.CDLL:
        """The simulator."""
        config, emission = self.config, self.emission
        widths = {port["name"]: port["width"] for port in emission.manifest["ports"]}
        path, _ = build_model(
            "pim", config.digest(), wrapper_of(emission.manifest["ports"], traced=self.traced) + emission.verilog,
            TOP, waves=self.waves, vpi=False, control=once_each(emission.verilog), main=DRAM_HEADER.with_name("pim_core.cpp"),
            companions=(DRAM_HEADER, DRAM_HEADER.with_name("pim_port.h")),
            defines=(*DRAM_DEFINES, *(("-DHEDDLE_PIM_TRACE",) if self.traced else ()),
                     f"-DHEDDLE_WORD_BYTES={widths['host_in__payload'] // 8}",
                     f"-DHEDDLE_BURST_BYTES={config.burst_bytes * config.streams}"),
            link=("-shared", "-Wl,-Bsymbolic"), output="libpim.so", options=ONCE_OPTIONS)
        library = ctypes.CDLL(str(path))
        pointer, u64 = ctypes.c_void_p, ctypes.c_uint64
        for name, result, arguments in (
            ("create", pointer, [ctypes.POINTER(DramConfigStruct), pointer, ctypes.c_int32, pointer, ctypes.c_int32]),
            ("destroy", None, [pointer]), ("configure", None, [pointer, ctypes.POINTER(_Host)]), ("reset", None, [pointer]),
            ("run", None, [pointer, pointer, u64, pointer, u64, ctypes.POINTER(_Run)]), ("out", pointer, [pointer]),
            ("said", None, [pointer, ctypes.POINTER(ViolationStruct)]), ("violations", ctypes.POINTER(u64), [pointer]),
            ("counts", ctypes.POINTER(u64), [pointer]), ("waves", ctypes.c_int, [pointer, ctypes.c_char_p]),
            ("event_count", u64, [pointer]), ("events", pointer, [pointer]),
        ):
            function = getattr(library, f"heddle_pim_{name}")
            function.restype, function.argtypes = result, arguments
        return library

    @property
    def word_bytes(self) -> int:
        """Bytes of a host word: one row of a slice of X."""
        return int(next(port["width"] for port in self.emission.manifest["ports"] if port["name"] == "host_in__payload")) // 8

    def host_words(self, values: npt.NDArray[Any]) -> Bytes:
        """Return the host words of slices of X, or of entries of the output buffer.

        Parameters
        ----------
        values : (n, X, width)
            In the type that `xtype` has in numpy, or float32 or int32.
        """
        return np.ascontiguousarray(values).view(np.uint8).reshape(-1, self.word_bytes)

    def entries(self, words: Bytes) -> npt.NDArray[Any]:
        """Return the entries that host words are, (n, X, width) in the type of the accumulators."""
        return words.reshape(-1).view(self.config.acc).reshape(-1, self.config.rows_x, self.config.width)

    def open(self, *, strict: bool = True, refresh: bool = True, stall: float = 0.0, seed: int = 0,
             watchdog: int = WATCHDOG_CYCLES) -> "PimSession":
        """Return a new session: a channel after reset, its DRAM zero.

        Parameters
        ----------
        strict : bool
            A command that breaks a rule of the DRAM ends the run with DramViolation; else it is counted.
        refresh : bool
            Whether the DRAM must be refreshed; the channel refreshes it in any case.
        stall : float
            Probability, at most 0.95, with which the host holds a word back, or does not take one, in a cycle.
        seed : int
            Of the stalls.
        watchdog : int
            Cycles without progress after which a list counts as hung.

        Raises
        ------
        ToolError
            If the simulator cannot be built.
        """
        for name, holds, rule, given in (
            ("stall", 0 <= stall <= 0.95, "between 0 and 0.95", stall), ("seed", 0 <= seed < 1 << 63, "from 0 on", seed),
            ("watchdog", watchdog >= 1, "at least 1", watchdog),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}, not {given!r}")
        return PimSession(self, strict=strict, refresh=refresh, host=_Host(seed, watchdog, int(stall * 2**32)))


class PimSession:
    """One channel and its DRAM. Time passes only while a list runs; buffers and settings of heads last from list to list.

    Attributes
    ----------
    memory : ndarray, uint8, (sets of banks, rows, bytes of a row)
        The DRAM; in a row [column][stream][byte]. Pages of it exist when they are touched.
    """

    def __init__(self, sim: PimSim, *, strict: bool, refresh: bool, host: _Host):
        config = sim.config
        self.sim, self.config = sim, config
        self._tables = DramTables(config.dram, interval=config.interval, streams=config.streams, rows=config.dram_rows,
                                  strict=strict, refresh=refresh, stripes=config.stripes)
        self.memory: Bytes = np.zeros((config.row_sets, config.dram_rows, config.row_bytes), np.uint8)
        self._library, self._broken = sim.library, False
        self._handle: int | None = self._library.heddle_pim_create(
            self._tables.config, self._tables.array, len(self._tables.rules), self.memory.ctypes.data,
            config.interval // config.pim_per_burst)
        self._library.heddle_pim_configure(self._handle, host)

    def close(self) -> None:
        """Free the model."""
        if self._handle is not None:
            self._library.heddle_pim_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> "PimSession":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def row(self, grp: int, row: int) -> Bytes:
        """Return a row as commands name it, a view: (columns, bytes of a burst of all streams)."""
        return self.memory[self.config.named_row(grp, row)].reshape(self.config.columns, -1)

    def record_waves(self, file: Path) -> None:
        """Write the waves of everything from now on to `file`.

        Raises
        ------
        ValueError
            If the simulator is not built for such files, or the file cannot be written.
        """
        if file.suffix != self.sim.waves:
            raise ValueError(f"waves must be a file {self.sim.waves or 'of a simulator with waves'}, not {str(file)!r}")
        if not self._library.heddle_pim_waves(self._open(), str(file).encode()):
            raise ValueError(f"waves must be a file that can be written, not {str(file)!r}")

    def reset(self) -> None:
        """Reset the channel: buffers and settings are lost, the DRAM's contents stay."""
        self._library.heddle_pim_reset(self._open())
        self._broken = False

    @property
    def violations(self) -> Counter[str]:
        """Name of the rule → how often it was broken since the session was opened."""
        return self._tables.count(self._library.heddle_pim_violations(self._open())[:len(self._tables.names)])

    def run(self, words: Sequence[int] | npt.NDArray[np.uint64], host_in: Bytes | None = None) -> PimRun:
        """Run a command list to its end.

        Parameters
        ----------
        words : sequence of int
            64-bit commands, at most as many as the list memory holds.
        host_in : (n, word_bytes) uint8
            Host words for WRX and WRACC, all that the list takes.

        Raises
        ------
        PimListError
            If the list stopped with an error; words that it did not take are gone.
        DramViolation
            If a command broke a rule of the DRAM and the session is strict. The next run resets the channel first.
        PimHang
            If nothing happens any more; likewise.
        ValueError
            If there are too many commands, or host words of another size or more than the list takes.
        """
        handle = self._open()
        listed = np.array(words, np.uint64).reshape(-1)
        width = self.sim.word_bytes
        given = np.zeros((0, width), np.uint8) if host_in is None else np.ascontiguousarray(host_in)
        if not 1 <= len(listed) <= self.sim.commands:
            raise ValueError(f"a list must have 1 to {self.sim.commands} commands, not {len(listed)}")
        if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] != width:
            raise ValueError(f"host_in must be uint8 of shape (words, {width}), not {given.dtype} of shape {given.shape}")
        if self._broken:
            self.reset()
        before = self._counts()
        run = _Run()
        self._library.heddle_pim_run(handle, listed.ctypes.data, len(listed), given.ctypes.data, len(given), run)
        self._judge(run, len(given))
        out = np.zeros((run.given, width), np.uint8)
        if run.given:
            ctypes.memmove(out.ctypes.data, self._library.heddle_pim_out(handle), out.nbytes)
        counters = {name: getattr(run, name) for name in COUNTERS}
        clocks = run.last_read - run.first_read + self.config.interval if run.first_read >= 0 else 0
        counters |= {"host_words_in": run.taken, "host_words_out": run.given, "read_clocks": clocks}
        return PimRun(host_out=out, cycles=run.cycles, counters=counters, dram=self._counts() - before, events=self._events())

    def _events(self) -> npt.NDArray[np.void]:
        handle = self._open()
        found = np.zeros(self._library.heddle_pim_event_count(handle), EVENT)
        if len(found):
            ctypes.memmove(found.ctypes.data, self._library.heddle_pim_events(handle), found.nbytes)
        return found

    def _judge(self, run: _Run, given: int) -> None:
        """Raise what a run must end with, if anything."""
        self._broken = run.stop != _DONE
        if run.stop == _DRAM:
            said = ViolationStruct()
            self._library.heddle_pim_said(self._open(), said)
            raise DramViolation(self._tables.text(said))
        if run.stop == _HANG:
            what = f"a host word after the {given} there are" if run.waits_for_word else "something that does not come"
            raise PimHang(f"the list waits for {what}: nothing has happened for a while after {run.cycles} cycles")
        if run.stop == _STREAM:
            raise PimHang(f"the channel changed a host word that was not taken, in cycle {run.cycles}")
        if run.stop == _MODEL:
            raise PimHang(f"the model stopped in cycle {run.cycles}: an assertion failed")
        if run.misuse:
            raise PimListError(PimErrorCause.TOKENS_RANGE, run.index)
        if run.error:
            raise PimListError(PimErrorCause(run.error), run.index)
        if run.taken != given:
            raise ValueError(f"host_in must be the {run.taken} words that the list takes, not {given}")

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the session is closed")
        return self._handle

    def _counts(self) -> Counter[DramCommand]:
        totals = self._library.heddle_pim_counts(self._open())[:len(DramCommand)]
        return Counter({command: total for command, total in zip(DramCommand, totals, strict=True) if total})
