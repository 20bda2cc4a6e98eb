"""Cycles that a command list takes on a core, predicted: sequencer, queues, units, rows and refreshes, burst by burst.

It is a model of `PimCore` in time alone: a command leaves its queue when what it shares with the other queue is done, rows are
opened a job ahead, results leave the MAC array after its latency, and a rank that owes refreshes gets them as `Refresher` gives
them. How we differ from the RTL: the host never waits, of the DRAM's times those count that a stream of bursts meets (no windows
of activations), and the first interval of refreshes begins with the list. A bench holds the formulas of latencies against the
blocks, and whole lists against the RTL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hw.config import ceil_div
from hw.pim.config import PimConfig
from hw.pim.isa import MacMode, PimOpcode, PimRegister, Queue
from sw.pim.expand import Command, Settings, expand
from sw.pim.schedule import QUEUE_DEPTH, Entry
from sw.pim.work import work_of

__all__ = ["bcast_reach", "merge_cycles", "predicted_cycles", "skid_bursts", "tree_latency"]

_ADD = {"float32": 6, "int32": 1}
_MULTIPLY = {"float32": 3, "int32": 2}
_PATIENCE = 4               # refreshes that a rank in use may owe
_JOBS = 2                   # under way in the array
_STEP = 3                   # cycles of a command in the sequencer
_STATE: Entry = ("l", 0)    # as `sw.pim.work` has it
_ENTRY = 2                  # of an entry to or from the host, beside its words


def _log2(value: int) -> int:
    return (value - 1).bit_length()


def bcast_reach(config: PimConfig) -> int:
    """Return the cycles from a beat to its sum in the accumulators."""
    return 2 + _MULTIPLY[config.acc] + _ADD[config.acc]


def tree_latency(config: PimConfig) -> int:
    """Return the cycles from the last beat of an output of TREE to the output buffer."""
    return bcast_reach(config) + (_log2(config.width) + _log2(config.n_acc_slots) + 1) * _ADD[config.acc] + 2


def merge_cycles(config: PimConfig, groups: int, *, add: bool) -> int:
    """Return the cycles without a beat at the end of an accumulation of BCAST over `groups` entries, added to what they have."""
    slots, settle = config.n_acc_slots, _ADD[config.acc] + 1
    segments = _log2(config.segments) * (groups + settle)
    return (bcast_reach(config) + groups * (slots - 1) + _log2(slots) * settle + segments + (2 * groups + settle) * add + groups)


def skid_bursts(config: PimConfig) -> int:
    """Return the bursts that wait between the DRAM and the array at most."""
    return ceil_div(config.dram.cl + config.dram.bl, config.interval) + 4


@dataclass(slots=True)
class _Set:
    """A set of banks, in DRAM clocks: its row, when it was opened, and its last burst."""

    row: int | None = None
    opened: int = 0
    read: int = 0


@dataclass(slots=True)
class _Banks:
    """Rows and refreshes of a channel, in DRAM clocks."""

    config: PimConfig
    sets: dict[int, _Set] = field(default_factory=dict)
    burst: int = -1000              # the last one, of any set
    refreshed: list[int] = field(default_factory=list)      # refreshes that each unit has had
    until: list[int] = field(default_factory=list)          # when each unit's last one ends
    free: int = 0                   # when the refresher can begin the next one
    last: int = 0                   # unit of the last job

    def __post_init__(self) -> None:
        config = self.config
        units = config.row_sets if config.refresh == "same-bank" else min(config.dram.ranks, config.row_sets)
        self.refreshed, self.until = [0] * units, [0] * units

    def unit(self, number: int) -> int:
        """Return which unit of refreshes a set belongs to."""
        return number * len(self.until) // self.config.row_sets

    def _due(self, unit: int) -> int:
        """Return when a unit owes one refresh more than it has had."""
        step = self.config.dram.refi // len(self.until)
        return step * (unit + 1 + self.refreshed[unit] * len(self.until))

    def _refresh(self, unit: int, now: int) -> None:
        dram, each = self.config.dram, self.config.row_sets // len(self.until)
        its = [self.sets.setdefault(number, _Set()) for number in range(unit * each, (unit + 1) * each)]
        opened = [one for one in its if one.row is not None]
        closed = max([now, self.free, *(max(one.read + dram.rtp_l, one.opened + dram.ras) for one in opened)])
        start = closed + dram.rp if opened else closed
        for one in its:
            one.row = None
        same_bank = self.config.refresh == "same-bank"
        self.free = start + ((self.config.streams if same_bank else dram.ranks // len(self.until)) - 1) * dram.rrefd
        self.until[unit] = self.free + dram.rfc
        self.refreshed[unit] += 1

    def begin(self, number: int, now: int) -> None:
        """Give refreshes before a job for a set that comes at `now`: to all units while there was none, to others now, and to
        its own where that cannot be put off.
        """
        ended, mine = self.burst + 1, self.unit(number)
        for unit, _ in enumerate(self.until):
            while (due := max(self._due(unit), ended, self.free)) < now:
                self._refresh(unit, due)
        busy = {mine, self.last} if ended > now else {mine}
        interval = self.config.dram.refi
        for unit, _ in enumerate(self.until):
            if self._due(unit) + (_PATIENCE - 1) * interval * (unit in busy) <= max(ended, now):
                self._refresh(unit, max(ended, now) if unit in busy else max(now, self._due(unit)))
        self.last = mine

    def ready(self, number: int, row: int, now: int, *, writes: bool) -> int:
        """Open a row from `now` on; return when its first burst may come."""
        dram, one = self.config.dram, self.sets.setdefault(number, _Set())
        if one.row != row:
            closed = now if one.row is None else max(now, one.read + dram.rtp_l, one.opened + dram.ras) + dram.rp
            one.opened, one.row = max(closed, self.until[self.unit(number)]), row
        return one.opened + (dram.rcd_write if writes else dram.rcd_mac)


@dataclass(slots=True)
class _Issued:
    """A command that has left its queue: when it is done, and what it touches."""

    done: int
    reads: frozenset[Entry]
    writes: frozenset[Entry]
    everything: bool = False

    def meets(self, other: "_Issued") -> bool:
        """Return whether they share an entry that either writes."""
        return (self.everything or other.everything or bool(self.writes & other.writes) or bool(self.writes & other.reads)
                or bool(self.reads & other.writes))


def predicted_cycles(config: PimConfig, words: Sequence[int]) -> int:
    """Return the cycles from the start of a list to its end.

    Raises
    ------
    CommandError
        If the list cannot be run (`sw.pim.expand`).
    """
    settings = Settings()
    core = _Core(config)
    for command in expand(words, settings):
        core.take(command, settings)
    return core.now


class _Core:
    """Times of one channel, in PIM cycles: where the sequencer is, what is under way in the queues, the array and the banks."""

    def __init__(self, config: PimConfig):
        self.now = 1
        self._config, self._clocks = config, config.interval // config.pim_per_burst
        self._queues: dict[Queue, list[_Issued]] = {Queue.IO: [], Queue.COMPUTE: []}
        self._left = {Queue.IO: 0, Queue.COMPUTE: 0}
        self._io_free = self._state = 0         # when the unit is free; when the last (m, l) is there
        self._banks = _Banks(config)
        self._kind, self._mode = "", MacMode.TREE
        self._takes: list[int] = []             # of the last bursts, when the array took them: places in the skid
        self._job_ends = [0] * _JOBS
        self._beat, self._merged, self._quiet = 0, 0, 0         # next beat; after a merge; array empty
        self._carried = False                   # an accumulation of BCAST goes on, onto what its entries have
        self._depth = skid_bursts(config)

    def take(self, command: Command, settings: Settings) -> None:
        """Let one command through."""
        config, opcode = self._config, command.opcode
        work = work_of(config, command, settings)
        decoded = self.now + 1
        if work.queue is Queue.SEQUENCER:
            if opcode in (PimOpcode.SETH, PimOpcode.BARRIER, PimOpcode.SYNC, PimOpcode.EOC, PimOpcode.HEADER):
                decoded = max([decoded, *(one.done + 1 for queue in self._queues.values() for one in queue[-QUEUE_DEPTH:])])
            self.now = decoded + (1 if opcode is PimOpcode.EOC else _STEP - 1)
            return
        queue, rivals = self._queues[work.queue], self._queues[Queue.IO if work.queue is Queue.COMPUTE else Queue.COMPUTE]
        if len(queue) >= QUEUE_DEPTH:
            decoded = max(decoded, queue[-QUEUE_DEPTH].done + 1)
        issued = _Issued(0, frozenset(work.reads), frozenset(work.writes),
                         opcode is PimOpcode.MRG and command.fields["aidx"] != command.fields["xidx"])
        shared = [one.done + 1 for one in rivals[-QUEUE_DEPTH:] if not config.dcs or one.meets(issued)]
        leaves = max(decoded + 1, self._left[work.queue] + 1, *shared, 0)
        if work.queue is Queue.IO:
            leaves = max(leaves, self._io_free, self._state if _STATE in work.reads else 0)
            issued.done = leaves + self._io_cycles(command, work.cycles)
            self._io_free = issued.done
            self._state = leaves + work.cycles + work.late if work.late else self._state
        else:
            leaves = self._compute(command, settings, leaves, issued)
        self._left[work.queue] = leaves
        queue.append(issued)
        self.now = decoded + _STEP - 1

    def _io_cycles(self, command: Command, otherwise: int) -> int:
        """Return the cycles of a command of the I/O queue."""
        rows, count = self._config.rows_x, command.fields.get("cnt", 0) + 1
        match command.opcode:
            case PimOpcode.WRX:
                return count * rows
            case PimOpcode.WRACC | PimOpcode.RDACC:
                bits = self._config.weight_bits if self._config.stores_x else 16
                return count * (rows * 32 // bits + _ENTRY)
            case _:
                return otherwise

    def _compute(self, command: Command, settings: Settings, leaves: int, issued: _Issued) -> int:
        """Run a command of the compute queue; return when it has left."""
        writes = command.opcode in (PimOpcode.WRCP, PimOpcode.KVAP)
        kind = "write" if writes else "mac" if command.opcode is PimOpcode.MAC else "x"
        if kind != self._kind or kind == "write":
            leaves = max([leaves, *(one.done + 1 for one in self._queues[Queue.COMPUTE][-QUEUE_DEPTH:])])
        self._kind = kind
        leaves = max(leaves, self._job_ends[-_JOBS] + 1)
        if kind == "write":
            self._write(command, settings, leaves, issued)
        elif "row" in command.fields and "cnt" in command.fields:
            self._read(command, settings, leaves, issued)
        else:
            issued.done = leaves + 1
        return leaves

    def _place(self, command: Command, settings: Settings) -> tuple[int, int]:
        config, fields = self._config, command.fields
        if command.opcode is not PimOpcode.KVAP:
            return config.named_row(fields["grp"], fields["row"])
        head = settings.heads.get(fields["aidx"], {})
        number = head.get("tokens", 0) * settings.of(PimRegister.HEAD_DIM) * config.kv_bits // 8 // config.row_bytes
        first = head.get("v_row" if fields["clr"] else "k_row", 0)
        return config.named_row(number % config.named_sets, first + number // config.named_sets)

    def _write(self, command: Command, settings: Settings, leaves: int, issued: _Issued) -> None:
        config, dram = self._config, self._config.dram
        place, row = self._place(command, settings)
        slices = len(issued.reads)
        self._banks.begin(place, (leaves + 1) * self._clocks)
        ready = self._banks.ready(place, row, (leaves + 1) * self._clocks, writes=True)
        gathered = (leaves + 4 + min(slices, config.beats)) * self._clocks
        bursts = ceil_div(slices, config.beats)
        burst = max(ready, gathered, self._banks.burst + dram.rtw)
        last = burst + (bursts - 1) * max(config.interval, (config.beats + 2) * self._clocks)
        self._banks.burst = last + dram.cwl + dram.bl + dram.wtr_l - config.interval
        self._banks.sets[place].read = last + dram.cwl + dram.bl + dram.wr - dram.rtp_l
        issued.done = last // self._clocks + 1
        self._job_ends = [*self._job_ends[1:], issued.done]

    def _read(self, command: Command, settings: Settings, leaves: int, issued: _Issued) -> None:
        """Read a job's bursts, and take their beats."""
        config, dram, fields, clocks = self._config, self._config.dram, command.fields, self._clocks
        place, row = self._place(command, settings)
        bcast = fields.get("mode", 0) == MacMode.BCAST
        self._banks.begin(place, (leaves + 1) * clocks)
        begins = self._banks.ready(place, row, (leaves + 1) * clocks, writes=False)
        self._beat = max(self._beat, self._merged)
        if command.opcode is PimOpcode.MAC and bcast != (self._mode is MacMode.BCAST):
            self._beat = max(self._beat, self._quiet)
            self._mode = MacMode.BCAST if bcast else MacMode.TREE
        for _ in range(fields["cnt"] + 1):
            read = max(begins, self._banks.burst + config.interval)
            if len(self._takes) >= self._depth:
                read = max(read, (self._takes[-self._depth] + 1) * clocks)
            self._banks.burst = read
            self._beat = max(self._beat, ceil_div(read + dram.cl + dram.bl, clocks) + 1)
            self._beat += config.beats
            self._takes.append(self._beat - 1)
        del self._takes[:-self._depth]
        self._banks.sets[place].read = self._banks.burst
        last = self._beat - 1
        self._job_ends = [*self._job_ends[1:], last]
        if command.opcode is not PimOpcode.MAC:
            issued.done = last + bcast_reach(config) + 2
        elif not bcast:
            issued.done = last + tree_latency(config)
            self._quiet = issued.done
        else:
            groups = len(issued.writes)
            adds = not (self._carried or fields["clr"])
            issued.done = last + bcast_reach(config)
            self._carried = not adds and not fields["last"]
            if fields["last"]:
                self._merged = last + merge_cycles(config, groups, add=adds) + 1
                issued.done = self._merged + 1
                self._quiet = self._merged
