"""The DRAM of a PIM as native code: behind the simulator of the logic die, and on its own a twin of `sw.pim.dram.DramChannel`."""

import ctypes
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flows.cache import cached_folder, key_of
from flows.toolchain import ToolError, compiler, versions
from hw.pim.timing import DramTiming
from hw.pim.timing_tables import (
    ACTIVATES,
    COLUMN_COMMANDS,
    POSTPONED_REFRESHES,
    REFRESHES,
    Constraint,
    DramCommand,
    Scope,
    constraints,
)
from sw.pim.dram import DramViolation

__all__ = ["DRAM_DEFINES", "DRAM_HEADER", "DramConfigStruct", "DramTables", "NativeDram", "Returned", "ViolationStruct"]

DRAM_HEADER = Path(__file__).parents[1] / "native" / "pim_dram.h"
DRAM_DEFINES = ("-DHEDDLE_DRAM_COMMANDS(X)=" + " ".join(f"X({command.name},{command:d})" for command in DramCommand),)
"""Options of the compiler for files that include `DRAM_HEADER`."""
STATE_RULES = ("OPEN", "CLOSED", "REFRESH_OPEN", "COLUMN", "ROW", "BANKS", "ORDER", "DEADLINE")
"""What the state of the banks forbids, in the order of `StateRule` in the header."""
_SINGLE = (DramCommand.ACT, DramCommand.RD, DramCommand.REFSB)
_SEVERAL = (DramCommand.ACTM, DramCommand.MAC)
_NORMAL = (DramCommand.ACT, DramCommand.RD, DramCommand.WR)


class _RuleStruct(ctypes.Structure):
    _fields_ = [("cycles", ctypes.c_int64), ("previous", ctypes.c_uint32), ("following", ctypes.c_uint32),
                ("scope", ctypes.c_int32), ("window", ctypes.c_int32)]


class DramConfigStruct(ctypes.Structure):
    """`DramConfig` of the header."""

    _fields_ = [*((name, ctypes.c_int64) for name in ("latency", "refi", "deadline")),
                *((name, ctypes.c_uint32) for name in ("activates", "columns_", "refreshes", "single", "several", "pim_buffer",
                                                       "row_buffer")),
                *((name, ctypes.c_int32) for name in ("banks", "bank_groups", "ranks", "streams", "rows", "columns",
                                                      "burst_bytes", "strict", "refresh", "dual_row_buffers", "stripes"))]


class ViolationStruct(ctypes.Structure):
    """`DramViolation` of the header."""

    _fields_ = [("at", ctypes.c_int64), ("value", ctypes.c_int64),
                *((name, ctypes.c_int32) for name in ("rule", "command", "previous", "bank"))]


class Returned(NamedTuple):
    """A burst that was read: the clock after its last beat, its banks, and (banks, burst_bytes) uint8."""

    at: int
    banks: tuple[int, ...]
    bursts: npt.NDArray[np.uint8]


def _mask(commands: Iterable[DramCommand]) -> int:
    return sum(1 << command for command in commands)


class DramTables:
    """What native code is told of a DRAM: its rules and its geometry, all from `hw.pim`.

    Parameters
    ----------
    timing : DramTiming
    interval : int
        DRAM clocks from one MAC to the next.
    streams : int
        Banks that lie together in memory.
    rows : int
        Of each bank.
    strict, refresh, dual_row_buffers : bool
        See `sw.pim.dram.DramChannel`.
    stripes : int
        Sets over which the bursts of a row of the memory go in turn.

    Attributes
    ----------
    rules : tuple of Constraint
    names : tuple of str
        Of every rule by its number; those of the state come last.
    config : DramConfigStruct
    """

    def __init__(self, timing: DramTiming, *, interval: int, streams: int, rows: int, strict: bool = True, refresh: bool = True,
                 dual_row_buffers: bool = False, stripes: int = 1):
        self.rules: tuple[Constraint, ...] = constraints(timing, interval)
        self.names = (*(rule.name for rule in self.rules), *STATE_RULES)
        self.shape = timing.all_banks // (streams * stripes), rows, timing.columns * stripes, streams, timing.burst_bytes
        scopes = list(Scope)
        self.array = (_RuleStruct * len(self.rules))(*(
            _RuleStruct(rule.cycles, _mask(rule.previous), _mask(rule.following), scopes.index(rule.scope), rule.window)
            for rule in self.rules))
        self.config = DramConfigStruct(
            latency=timing.cl + timing.bl, refi=timing.refi, deadline=(POSTPONED_REFRESHES + 1) * timing.refi,
            activates=_mask(ACTIVATES), columns_=_mask(COLUMN_COMMANDS), refreshes=_mask(REFRESHES), single=_mask(_SINGLE),
            several=_mask(_SEVERAL), pim_buffer=_mask(_SEVERAL), row_buffer=_mask(_NORMAL), banks=timing.all_banks,
            bank_groups=timing.bank_groups, ranks=timing.ranks, streams=streams, rows=rows, columns=timing.columns,
            burst_bytes=timing.burst_bytes, strict=strict, refresh=refresh, dual_row_buffers=dual_row_buffers,
            stripes=stripes)

    def text(self, said: ViolationStruct) -> str:
        """Return what a violation says: rule, command, clock, why, bank."""
        command = f"{DramCommand(said.command).name} " if said.command >= 0 else ""
        if said.rule < len(self.rules):
            rule = self.rules[said.rule]
            why = (f"{said.value} clocks after {DramCommand(said.previous).name} in the {rule.scope.value}, "
                   f"at least {rule.cycles}")
        else:
            value, bank = said.value, said.bank
            why = {"OPEN": f"a row of bank {bank} is open", "CLOSED": f"no row of bank {bank} is open",
                   "REFRESH_OPEN": f"a row of bank {bank} is open", "COLUMN": f"column {value}", "ROW": f"row {value}",
                   "BANKS": f"{value} banks", "ORDER": f"the last command was at {value}",
                   "DEADLINE": f"bank {bank} was not refreshed for more than {value} clocks"}[self.names[said.rule]]
        where = f" (bank {said.bank})" if said.rule < len(self.rules) else ""
        return f"{self.names[said.rule]}: {command}at {said.at}: {why}{where}"

    def count(self, totals: Sequence[int]) -> Counter[str]:
        """Return name → how often it was broken, of the rules that were."""
        found: Counter[str] = Counter()
        for name, total in zip(self.names, totals, strict=True):
            if total:
                found[name] += total
        return found


def _library() -> ctypes.CDLL:
    """Return the model on its own, compiled when it is first asked for."""
    source = DRAM_HEADER.with_suffix(".cpp")
    options = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", *DRAM_DEFINES)

    def fill(work: Path) -> None:
        done = subprocess.run([compiler(), *options, str(source), "-o", str(work / "libdram.so")], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise ToolError(f"the model of DRAM does not compile:\n{done.stderr[-4000:]}")

    folder, _ = cached_folder(f"dram-{key_of(source.read_text(), DRAM_HEADER.read_text(), options, versions())}", fill)
    library = ctypes.CDLL(str(folder / "libdram.so"))
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    for name, result, arguments in (
        ("create", pointer, [ctypes.POINTER(DramConfigStruct), pointer, i32, pointer]), ("destroy", None, [pointer]),
        ("command", ctypes.c_int, [pointer, i64, i32, pointer, i32, i64, i64, pointer, pointer]),
        ("in_time", ctypes.c_int, [pointer, i64]), ("said", None, [pointer, ctypes.POINTER(ViolationStruct)]),
        ("violations", ctypes.POINTER(ctypes.c_uint64), [pointer]), ("counts", ctypes.POINTER(ctypes.c_uint64), [pointer]),
        ("take", i32, [pointer, ctypes.POINTER(i64), pointer, pointer]),
    ):
        function = getattr(library, f"heddle_dram_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class NativeDram:
    """The native model on its own, with the methods of `sw.pim.dram.DramChannel`.

    Parameters
    ----------
    timing, interval, rows, strict, refresh, dual_row_buffers
        See `sw.pim.dram.DramChannel`.
    stripes : int
        See `DramTables`.
    """

    def __init__(self, timing: DramTiming, *, interval: int, rows: int = 64, strict: bool = True, refresh: bool = True,
                 dual_row_buffers: bool = False, stripes: int = 1):
        self.timing, self.strict, self._stripes = timing, strict, stripes
        self._tables = DramTables(timing, interval=interval, streams=1, rows=rows, strict=strict, refresh=refresh,
                                  dual_row_buffers=dual_row_buffers, stripes=stripes)
        self._memory: npt.NDArray[np.uint8] = np.zeros(self._tables.shape, np.uint8)
        self._library = _library()
        self._handle = self._library.heddle_dram_create(self._tables.config, self._tables.array, len(self._tables.rules),
                                                        self._memory.ctypes.data)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._library.heddle_dram_destroy(self._handle)

    def row(self, bank: int, row: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of a row, (columns, burst_bytes), to read or write without a command."""
        return self._memory[bank // self._stripes, row, bank % self._stripes::self._stripes, 0]

    def command(self, at: int, command: DramCommand, banks: Sequence[int], *, row: int = 0, column: int = 0,
                data: npt.NDArray[np.uint8] | None = None, mask: Iterable[bool] | None = None) -> None:
        """Take a command; see `sw.pim.dram.DramChannel.command`."""
        listed = np.array(banks, np.int32)
        burst = None if data is None else np.ascontiguousarray(data, np.uint8)
        chosen = None if mask is None else np.array(list(mask), np.uint8)
        self._judge(self._library.heddle_dram_command(
            self._handle, at, command, listed.ctypes.data, len(listed), row, column,
            None if burst is None else burst.ctypes.data, None if chosen is None else chosen.ctypes.data))

    def check_deadline(self, at: int) -> None:
        """Look for banks that have not been refreshed for too long."""
        self._judge(self._library.heddle_dram_in_time(self._handle, at))

    def _judge(self, fine: int) -> None:
        if self.strict and not fine:
            said = ViolationStruct()
            self._library.heddle_dram_said(self._handle, said)
            raise DramViolation(self._tables.text(said))

    def take(self) -> Returned | None:
        """Return the oldest burst that was read, once."""
        at, banks = ctypes.c_int64(), np.zeros(self.timing.all_banks, np.int32)
        data = np.zeros((self.timing.all_banks, self.timing.burst_bytes), np.uint8)
        count = self._library.heddle_dram_take(self._handle, at, banks.ctypes.data, data.ctypes.data)
        return Returned(at.value, tuple(banks[:count].tolist()), data[:count]) if count else None

    @property
    def violations(self) -> Counter[str]:
        """Name of the rule → how often."""
        return self._tables.count(self._library.heddle_dram_violations(self._handle)[:len(self._tables.names)])

    @property
    def counts(self) -> Counter[DramCommand]:
        """Command → banks touched."""
        totals = self._library.heddle_dram_counts(self._handle)[:len(DramCommand)]
        return Counter({command: total for command, total in zip(DramCommand, totals, strict=True) if total})
