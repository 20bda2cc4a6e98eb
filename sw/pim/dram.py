"""DRAM of one pseudo-channel as a model: it stores, returns data in time, and checks every command against the timing rules.

Banks are numbered with the bank group fastest: bank n is bank (n // groups) % banks of group n % groups, of rank
n // (groups·banks). The banks that are read together as set s are s·streams to (s + 1)·streams − 1, so that a set spreads over
as many groups as it can.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hw.pim.timing import DramTiming
from hw.pim.timing_tables import (
    ACTIVATES,
    COLUMN_COMMANDS,
    POSTPONED_REFRESHES,
    Constraint,
    DramCommand,
    Scope,
    constraints,
)

__all__ = ["DramChannel", "DramViolation"]

Burst = npt.NDArray[np.uint8]
_NEVER = -(1 << 40)
_CLOSED = -1


class DramViolation(AssertionError):
    """A command that the DRAM does not allow; the text begins with the name of the rule."""


class DramChannel:
    """One pseudo-channel: rows of bursts in each bank, and the rules of its timing.

    What the state of the banks forbids has names too: "OPEN" (ACT of an open bank), "CLOSED" (a column command to a closed one),
    "REFRESH_OPEN" (refresh of an open one), "COLUMN", "ROW", "BANKS" (a column, row or number of banks that there is not),
    "ORDER" (time runs backwards) and "DEADLINE" (a bank was not refreshed for more than 9 intervals).

    Parameters
    ----------
    timing : DramTiming
    interval : int
        DRAM clocks from one MAC to the next.
    rows : int
        Rows of each bank.
    strict : bool
        A violation raises DramViolation; else it is counted, and the command does what it can.
    refresh : bool
        Whether banks must be refreshed.
    dual_row_buffers : bool
        The banks have a second row buffer for ACTM and MAC (NeuPIMs): rules between those and ACT, RD, WR of the same bank do not
        hold, nor does an open row of one kind stop the other. PRE then closes both.

    Attributes
    ----------
    violations : Counter
        Name of the rule → how often.
    counts : Counter
        Command → banks touched: what energy is charged by.
    returned : deque of (time, banks, bursts)
        Data of reads, in order; `time` is the clock after its last beat. bursts: (banks, burst_bytes) uint8.
    """

    def __init__(self, timing: DramTiming, *, interval: int, rows: int = 64, strict: bool = True, refresh: bool = True,
                 dual_row_buffers: bool = False):
        self.timing, self.interval, self.rows, self.strict, self.refresh = timing, interval, rows, strict, refresh
        self.dual_row_buffers = dual_row_buffers
        self.violations: Counter[str] = Counter()
        self.counts: Counter[DramCommand] = Counter()
        self.returned: deque[tuple[int, tuple[int, ...], Burst]] = deque()
        self._store: dict[tuple[int, int], Burst] = {}
        self._open = np.full((2, timing.all_banks), _CLOSED)
        self._refreshed = np.zeros(timing.all_banks, dtype=np.int64)
        self._now = 0
        # Per bank, group, rank and channel: times of the last four commands of each kind, newest last.
        parts = (timing.all_banks, timing.ranks * timing.bank_groups, timing.ranks, 1)
        self._last = {scope: np.full((len(DramCommand), count, 4), _NEVER, dtype=np.int64)
                      for scope, count in zip(Scope, parts, strict=True)}
        self._rules: dict[DramCommand, list[Constraint]] = {command: [] for command in DramCommand}
        for rule in constraints(timing, interval):
            for command in rule.following:
                self._rules[command].append(rule)

    # Contents -------------------------------------------------------------------------------------------------

    def row(self, bank: int, row: int) -> Burst:
        """Return the bytes of a row, (columns, burst_bytes), to read or write without a command; zeros at first."""
        shape = (self.timing.columns, self.timing.burst_bytes)
        return self._store.setdefault((bank, row), np.zeros(shape, np.uint8))

    # Commands -------------------------------------------------------------------------------------------------

    def command(self, at: int, command: DramCommand, banks: Sequence[int], *, row: int = 0, column: int = 0,
                data: Burst | None = None, mask: Iterable[bool] | None = None) -> None:
        """Take a command.

        Parameters
        ----------
        at : int
            DRAM clock; not before that of the last command.
        command : DramCommand
        banks : sequence of int
            Those that it touches, all of a rank for REF.
        row, column : int
            Of an activation; of a column command.
        data : (banks, burst_bytes) uint8
            What a WR writes.
        mask : iterable of bool
            Banks whose burst is written; None: all.

        Raises
        ------
        DramViolation
            If the model is strict and a rule is broken.
        """
        if at < self._now:
            self._violated("ORDER", at, command, f"the last command was at {self._now}")
        self._now = max(self._now, at)
        listed = np.asarray(banks, dtype=np.int64)
        if not self._exist(at, command, listed, row, column):
            return
        self._check_rules(at, command, listed)
        self.check_deadline(at)
        self._apply(at, command, listed, row, column, data, mask)
        self._record(at, command, listed)
        self.counts[command] += len(listed)

    def check_deadline(self, at: int) -> None:
        """Look for banks that have not been refreshed for too long, also where no command comes any more."""
        limit = (POSTPONED_REFRESHES + 1) * self.timing.refi
        late = np.flatnonzero(at - self._refreshed > limit) if self.refresh else np.zeros(0, np.int64)
        if late.size:
            self._refreshed[late] = at                      # said once, not at every command from now on
            self._violated("DEADLINE", at, None, f"bank {late[0]} was not refreshed for more than {limit} clocks")

    def _violated(self, rule: str, at: int, command: DramCommand | None, why: str) -> None:
        self.violations[rule] += 1
        if self.strict:
            raise DramViolation(f"{rule}: {'' if command is None else f'{command.name} '}at {at}: {why}")

    def _exist(self, at: int, command: DramCommand, banks: npt.NDArray[np.int64], row: int, column: int) -> bool:
        t = self.timing
        single = command in (DramCommand.ACT, DramCommand.RD, DramCommand.REFSB)
        several = command in (DramCommand.ACTM, DramCommand.MAC)
        per_rank = t.all_banks // t.ranks
        whole = command is DramCommand.REF and not (
            len(banks) == per_rank and np.array_equal(np.sort(banks), np.arange(per_rank) + banks.min() // per_rank * per_rank))
        if not banks.size or banks.min() < 0 or banks.max() >= t.all_banks or len(set(banks.tolist())) < banks.size or (
                single and banks.size != 1) or (several and banks.size < 2) or whole:
            self._violated("BANKS", at, command, f"banks {banks.tolist()}")
        elif command in ACTIVATES and not 0 <= row < self.rows:
            self._violated("ROW", at, command, f"row {row}")
        elif command in COLUMN_COMMANDS and not 0 <= column < t.columns:
            self._violated("COLUMN", at, command, f"column {column}")
        else:
            return True
        return False

    def _parts(self, scope: Scope, banks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        t = self.timing
        if scope is Scope.BANK:
            return banks
        rank = banks // (t.bank_groups * t.banks)
        if scope is Scope.GROUP:
            return np.unique(rank * t.bank_groups + banks % t.bank_groups)
        return np.unique(rank) if scope is Scope.RANK else np.zeros(1, np.int64)

    def _check_rules(self, at: int, command: DramCommand, banks: npt.NDArray[np.int64]) -> None:
        for rule in self._rules[command]:
            parts = self._parts(rule.scope, banks)
            for previous in rule.previous:
                if self.dual_row_buffers and rule.scope is Scope.BANK and _buffers(previous) is not None and (
                        _buffers(command) not in (_buffers(previous), None)):
                    continue
                last = int(self._last[rule.scope][previous, parts, 4 - rule.window].max())
                if at - last < rule.cycles:
                    self._violated(rule.name, at, command,
                                   f"{at - last} clocks after {previous.name} in the {rule.scope.value}, at least {rule.cycles}")

    def _apply(self, at: int, command: DramCommand, banks: npt.NDArray[np.int64], row: int, column: int, data: Burst | None,
               mask: Iterable[bool] | None) -> None:
        buffer = int(self.dual_row_buffers and _buffers(command) == 1)
        rows = self._open[buffer]
        if command in ACTIVATES:
            if (rows[banks] != _CLOSED).any():
                self._violated("OPEN", at, command, f"a row is open in one of the banks {banks.tolist()}")
            rows[banks] = row
        elif command is DramCommand.PRE:
            self._open[:, banks] = _CLOSED
        elif command in COLUMN_COMMANDS:
            if (rows[banks] == _CLOSED).any():
                self._violated("CLOSED", at, command, f"no row is open in one of the banks {banks.tolist()}")
                return
            bursts = [self.row(int(bank), int(rows[bank])) for bank in banks]
            if command is DramCommand.WR:
                assert data is not None
                for bank, burst, chosen in zip(bursts, data, [True] * len(bursts) if mask is None else mask, strict=True):
                    if chosen:
                        bank[column] = burst
            else:
                self.returned.append((at + self.timing.cl + self.timing.bl, tuple(banks.tolist()),
                                      np.stack([burst[column] for burst in bursts])))
        else:
            if (self._open[:, banks] != _CLOSED).any():
                self._violated("REFRESH_OPEN", at, command, f"a row is open in one of the banks {banks.tolist()}")
            # A refresh answers for one interval: one that comes early does not put the next deadline off.
            self._refreshed[banks] = np.minimum(self._refreshed[banks] + self.timing.refi, at)

    def _record(self, at: int, command: DramCommand, banks: npt.NDArray[np.int64]) -> None:
        for scope, last in self._last.items():
            parts = self._parts(scope, banks)
            last[command, parts] = np.roll(last[command, parts], -1, axis=-1)
            last[command, parts, -1] = at


def _buffers(command: DramCommand) -> int | None:
    """Return which of two row buffers a command is about; None: both."""
    if command in (DramCommand.ACTM, DramCommand.MAC):
        return 1
    return 0 if command in (DramCommand.ACT, DramCommand.RD, DramCommand.WR) else None
