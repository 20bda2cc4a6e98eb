"""Checks a command list before it is sent: everything that would stop it, and reads of what nobody has written.

Durations are upper bounds in DRAM clocks: rows are opened for each command of its own, and once for all of a composite that stay
in one; queues do not overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from hw.config import ceil_div
from hw.pim.config import PimConfig
from hw.pim.isa import AF_MODES, HEAD_SETTINGS, MOST_BEATS, MacMode, PimErrorCause, PimOpcode, PimRegister, Queue
from hw.pim.units import missing_unit
from sw.pim.expand import Command, CommandError, Settings, expand
from sw.pim.explicit_rows import ExplicitRows
from sw.pim.schedule import Entry
from sw.pim.work import reserved_periods, work_of

__all__ = ["MOST_COMMANDS", "Report", "check", "duration_tck"]

MOST_COMMANDS = 1 << 20
_ROW_COMMANDS = (PimOpcode.MAC, PimOpcode.EWMUL, PimOpcode.EWADD, PimOpcode.RDCP, PimOpcode.WRCP)
_OUTPUT = HEAD_SETTINGS.index("output")
_OF_OUTPUT = (PimOpcode.SFO, PimOpcode.MRG)
_EXPLICIT = (PimOpcode.ACT, PimOpcode.PRE, PimOpcode.REF)
_OF_HEADS = {PimOpcode.SETH: ("aidx",), PimOpcode.MVX: ("aidx",), PimOpcode.MVS: ("xidx",), PimOpcode.STS: ("xidx",),
             PimOpcode.LDS: ("xidx",), PimOpcode.SFM: ("aidx",),
             PimOpcode.SFO: ("aidx",), PimOpcode.MRG: ("aidx", "xidx"), PimOpcode.KVAP: ("aidx",)}
_SAID = {"x": "slice {} of the X buffer", "o": "entry {} of the output buffer", "s": "softmax of head {}",
         "z": "entry {} of the side table", "d": "dequantized sum {}"}
_BUFFERS = {"x": ("xbuf_entries", PimErrorCause.XBUF_RANGE), "o": ("obuf_entries", PimErrorCause.OBUF_RANGE),
            "z": ("sides", PimErrorCause.SIDE_RANGE), "d": ("obuf_entries", PimErrorCause.OBUF_RANGE)}


@dataclass(frozen=True, slots=True)
class Report:
    """What a list does, and what is suspicious about it.

    Attributes
    ----------
    commands : int
        That are issued, loops run.
    bursts : int
        That are read or written.
    tck : Fraction
        Upper bound of the DRAM clocks, before refresh.
    longest : Fraction
        Of a composite.
    taken, given : int
        Slices, entries, words of the side table and scales of entries that the host sends, and entries that it gets.
    hazards : tuple of (int, str)
        Command and text: a buffer entry that is read though nothing was written, or read while its accumulation is open;
        outputs of two heads that are merged though they share entries.
    """

    commands: int
    bursts: int
    tck: Fraction
    longest: Fraction
    hazards: tuple[tuple[int, str], ...]
    taken: int = 0
    given: int = 0


def duration_tck(config: PimConfig, command: Command, settings: Settings, *, opens: bool = True) -> Fraction:
    """Return an upper bound of the DRAM clocks of a command; `opens`: its row is not open yet."""
    dram = config.dram
    if command.opcode in _ROW_COMMANDS or command.opcode is PimOpcode.KVAP:
        writes = command.opcode in (PimOpcode.WRCP, PimOpcode.KVAP)
        bursts = _kv_bursts(config, settings) if command.opcode is PimOpcode.KVAP else command.fields["cnt"] + 1
        close = dram.cwl + dram.bl + dram.wr if writes else dram.rtp_l
        return Fraction(bursts * config.interval + (dram.rcd_mac + close + dram.rp if opens else 0))
    if command.opcode in _EXPLICIT:
        ended = max(dram.rtp_l, dram.cwl + dram.bl + dram.wr)
        return Fraction({PimOpcode.ACT: max(dram.rcd, dram.rcd_mac, dram.rcd_write), PimOpcode.PRE: ended + dram.rp}.get(
            command.opcode, dram.rfc))
    work = work_of(config, command, settings)
    return Fraction(max(work.cycles, work.latency) * config.interval, config.pim_per_burst)


def _kv_bursts(config: PimConfig, settings: Settings) -> int:
    share = 8 * config.burst_bytes * config.streams // config.segments          # bits of a segment's part of a burst
    return max(1, ceil_div(settings.of(PimRegister.HEAD_DIM) * config.kv_bits, share))


def check(config: PimConfig, words: Sequence[int], *, most: int = MOST_COMMANDS) -> Report:
    """Return what a list does that issues at most `most` commands.

    Raises
    ------
    CommandError
        At the first command that would stop it: with the cause that hardware has for it.
    """
    checker = _Checker(config, most)
    for command in expand(words, checker.settings):
        checker.command(command)
    return checker.report()


class _Checker:
    def __init__(self, config: PimConfig, most: int) -> None:
        self.config, self.settings, self._most = config, Settings(), most
        self._count, self._bursts = 0, 0
        self._taken = self._given = 0
        self._tck, self._composite_tck, self._longest = Fraction(0), Fraction(0), Fraction(0)
        self._composite, self._row, self._holds_rows = -1, (-1, -1), False
        self._written: set[Entry] = set()
        self._open: set[Entry] = set()
        self._hazards: list[tuple[int, str]] = []
        self._rows = ExplicitRows(config)
        self._waiting = (0, 0)              # head and number of the scores that wait

    def command(self, command: Command) -> None:
        self._count += 1
        if self._count > self._most:
            raise CommandError(PimErrorCause.LOOP_RANGE, command.index, f"a list must issue at most {self._most} commands")
        self._ranges(command)
        self._rows.take(command, self.settings, self._tck)
        self._buffers(command)
        if command.opcode in (PimOpcode.WRX, PimOpcode.WRACC, PimOpcode.DQA):
            self._taken += command.fields["cnt"] + 1
        elif command.opcode is PimOpcode.WRS:
            self._taken += 1
        elif command.opcode is PimOpcode.RDACC:
            self._given += command.fields["cnt"] + 1
        if command.opcode is PimOpcode.KVAP:
            self._token(command)
        self._time(command)
        self._rows.check_refresh(command, self._tck)

    def report(self) -> Report:
        return Report(self._count, self._bursts, self._tck, self._longest, tuple(self._hazards), self._taken, self._given)

    def _refuse(self, cause: PimErrorCause, command: Command, text: str) -> None:
        raise CommandError(cause, command.index, text)

    def _ranges(self, command: Command) -> None:
        config, fields = self.config, command.fields
        if needed := missing_unit(config, command.opcode):
            self._refuse(PimErrorCause.UNSUPPORTED, command,
                         f"opcode must be one that this die has the unit for, not {command.opcode.name}, which takes {needed}")
        for name in _OF_HEADS.get(command.opcode, ()):
            if fields[name] >= config.heads:
                self._refuse(PimErrorCause.HEAD_RANGE, command, f"head must be below {config.heads}, not {fields[name]}")
        if command.opcode is PimOpcode.SETM:
            self._register(command)
        if command.opcode is PimOpcode.MAC and fields["mode"] not in (MacMode.TREE, MacMode.BCAST):
            self._refuse(PimErrorCause.ILLEGAL_COMMAND, command, f"mode of MAC must be 0 or 1, not {fields['mode']}")
        elif command.opcode is PimOpcode.MAC:
            self._mac(command)
        if command.opcode in _OF_OUTPUT and not self.settings.of(PimRegister.HEAD_DIM):
            self._refuse(PimErrorCause.HEAD_RANGE, command,
                         f"HEAD_DIM of {command.opcode.name} must be between 1 and {config.k_tile}, not 0")
        if command.opcode is PimOpcode.AF and fields["mode"] >= len(AF_MODES):
            self._refuse(PimErrorCause.ILLEGAL_COMMAND, command,
                         f"mode of AF must be below {len(AF_MODES)}, not {fields['mode']}")
        if "grp" in fields and command.opcode is not PimOpcode.SETH and fields["grp"] >= config.row_sets:
            self._refuse(PimErrorCause.GROUP_RANGE, command, f"grp must be below {config.row_sets}, not {fields['grp']}")
        if "row" in fields and fields["row"] >= config.dram_rows * ceil_div(config.row_sets, 16):
            most = config.dram_rows * ceil_div(config.row_sets, 16)
            self._refuse(PimErrorCause.ROW_RANGE, command, f"row must be below {most}, not {fields['row']}")
        if command.opcode in _ROW_COMMANDS and fields["col"] + fields["cnt"] >= config.columns:
            self._refuse(PimErrorCause.COLUMN_RANGE, command,
                         f"col + cnt must be below {config.columns}, not {fields['col'] + fields['cnt']}")
        if command.opcode is PimOpcode.WRS and fields["xidx"] % config.word_bytes + fields["cnt"] >= config.word_bytes:
            self._refuse(PimErrorCause.SIDE_RANGE, command, f"sides must be within {config.word_bytes}, a word of the table, "
                                                            f"not {fields['xidx']} to {fields['xidx'] + fields['cnt']}")
        if command.opcode in (PimOpcode.SFM, PimOpcode.SFO) and not 1 <= fields["value"] <= config.k_tile:
            self._refuse(PimErrorCause.TOKENS_RANGE, command,
                         f"scores must be between 1 and {config.k_tile}, what the softmax unit holds, not {fields['value']}")

    def _mac(self, command: Command) -> None:
        """Look for periods that are none, and for room that hardware keeps beyond what is touched."""
        config, fields = self.config, command.fields
        beats, k_beats = (fields["cnt"] + 1) * config.beats, self.settings.of(PimRegister.K_BEATS)
        if not k_beats:
            self._refuse(PimErrorCause.HEAD_RANGE, command, f"K_BEATS of MAC must be between 1 and {MOST_BEATS}, not 0")
        periods, tree = reserved_periods(beats, k_beats), fields["mode"] == MacMode.TREE
        if not tree and fields["xidx"] % config.segments:
            self._refuse(PimErrorCause.ILLEGAL_COMMAND, command,
                         f"xidx of BCAST must be a multiple of the {config.segments} segments, not {fields['xidx']}")
        if not tree and beats % k_beats:
            self._refuse(PimErrorCause.ILLEGAL_COMMAND, command,
                         f"beats of BCAST must be a multiple of K_BEATS, {k_beats}, not {beats}")
        if k_beats & (k_beats - 1) == 0:
            return                              # what is touched is all, and looked at with the buffers
        most, last, cause = (config.obuf_entries, fields["aidx"] + periods - 1, PimErrorCause.OBUF_RANGE) if tree else (
            config.xbuf_entries, (fields["xidx"] + periods * config.segments - 1) // config.width, PimErrorCause.XBUF_RANGE)
        if last >= most:
            self._refuse(cause, command, f"entries must be below {most}, with room for {periods} periods as K_BEATS is no power "
                                         f"of two, not {last}")

    def _register(self, command: Command) -> None:
        config, value = self.config, command.fields["value"]
        head_rows = config.dram_rows * config.row_sets // 2
        limits = {
            PimRegister.K_BEATS: (1, MOST_BEATS), PimRegister.GROUP: (1, config.rows_x), PimRegister.HEAD_DIM: (1, config.k_tile),
            PimRegister.OPERANDS: (0, 2 if len({config.wtype, config.kvtype}) + len({config.xtype, config.ptype}) > 2 else 0),
            PimRegister.MAX_TOKENS: (0, head_rows * config.row_bytes * 8 // config.kv_bits),
        }
        register = PimRegister(command.fields["aidx"])
        if register not in limits:
            return
        low, high = limits[register]
        if not low <= value <= high:
            cause = PimErrorCause.TOKENS_RANGE if register is PimRegister.MAX_TOKENS else PimErrorCause.HEAD_RANGE
            self._refuse(cause, command, f"{register.name} must be between {low} and {high}, not {value}")

    def _token(self, command: Command) -> None:
        config, dim = self.config, self.settings.of(PimRegister.HEAD_DIM)
        slices, least, row = dim // config.width, config.stream_slices, config.columns * config.beats
        if dim % config.width or not least <= slices <= row or slices & (slices - 1):
            self._refuse(PimErrorCause.HEAD_RANGE, command, f"HEAD_DIM of KVAP must be {least * config.width}, what a stream's "
                                                            f"burst holds, times a power of two up to a row, not {dim}")
        head = self.settings.heads.setdefault(command.fields["aidx"], {})
        tokens, most = head.get("tokens", 0), self.settings.of(PimRegister.MAX_TOKENS)
        if tokens >= most:
            self._refuse(PimErrorCause.TOKENS_RANGE, command, f"tokens of head {command.fields['aidx']} must be at most {most}, "
                                                              f"not {tokens + 1}")
        first = head.get("v_row" if command.fields["clr"] else "k_row", 0)
        place = first + tokens // config.tokens_a_row(dim) // config.named_sets
        if place >= config.dram_rows:
            self._refuse(PimErrorCause.ROW_RANGE, command, f"row of a token must be below {config.dram_rows}, not {place}")
        head["tokens"] = tokens + command.fields["clr"]

    def _buffers(self, command: Command) -> None:
        work = work_of(self.config, command, self.settings)
        for entry in (*work.reads, *work.writes):
            kind, number = entry
            if kind in _BUFFERS:
                name, cause = _BUFFERS[kind]
                most = getattr(self.config, name)
                if number >= most:
                    self._refuse(cause, command, f"entries must be below {most} ({name}), not {number}")
                if kind == "o" and number >= self.config.wide_entries and _all_lanes(command):
                    self._refuse(cause, command, f"entries must be below {self.config.wide_entries}, those with all lanes, "
                                                 f"not {number}")
        if command.opcode is PimOpcode.MAC and command.fields["mode"] == MacMode.BCAST:
            most = self.config.bcast_entries
            if len(work.writes) > most:
                self._refuse(PimErrorCause.OBUF_RANGE, command,
                             f"entries that BCAST adds up at once must be at most {most}, not {len(work.writes)}")
        self._scores(command)
        self._merge(command)
        softmax = command.opcode in (PimOpcode.SFO, PimOpcode.MRG)
        for entry in work.reads:
            if entry[0] in _SAID and entry not in self._written and not softmax:
                self._hazards.append((command.index, f"{_said(entry)} is read, but nothing was written"))
            elif entry in self._open:
                self._hazards.append((command.index, f"{_said(entry)} is read while its accumulation is open"))
        self._written.update(work.writes)
        if command.opcode is PimOpcode.MAC:
            tree = command.fields["mode"] == MacMode.TREE
            self._open.difference_update(work.writes)
            if not command.fields["last"]:
                self._open.update(work.writes[-1:] if tree else work.writes)
        elif work.queue is Queue.IO:
            self._open.difference_update(work.writes)

    def _merge(self, command: Command) -> None:
        """Look for outputs of two heads that lie across each other: hardware merges entry by entry."""
        mine, other = command.fields.get("aidx", 0), command.fields.get("xidx", 0)
        if command.opcode is PimOpcode.MRG and mine != other:
            first, second = (self.settings.heads.get(head, {}).get("output", 0) for head in (mine, other))
            if abs(first - second) < self.config.token_beats(self.settings.of(PimRegister.HEAD_DIM)):
                self._hazards.append((command.index, f"outputs of heads {mine} and {other} share entries"))

    def _scores(self, command: Command) -> None:
        """Follow the scores that wait: hardware has those of one head, and takes all at once, of the last entry some."""
        (head, count), each, fields = self._waiting, self.config.segments, command.fields
        cause = PimErrorCause.TOKENS_RANGE
        if command.opcode is PimOpcode.MVS:
            if count and head != fields["xidx"]:
                self._refuse(cause, command, f"scores must be of head {head}, whose others wait, not {fields['xidx']}")
            count += (fields["cnt"] + 1) * each
            if count > self.config.k_tile:
                self._refuse(cause, command, f"scores that wait must be at most {self.config.k_tile}, not {count}")
            self._waiting = fields["xidx"], count
        elif command.opcode in (PimOpcode.SFM, PimOpcode.SFO):
            taken = ceil_div(fields["value"], each) * each
            if (head, count) != (fields["aidx"], taken):
                self._refuse(cause, command, f"scores must be the {count} of head {head} that wait, "
                                             f"not {fields['value']} of head {fields['aidx']}")
            self._waiting = head, 0
        elif command.opcode is PimOpcode.SETH and fields["grp"] == _OUTPUT and fields["aidx"] == head:
            self._waiting = head, 0             # a head that has seen nothing

    def _time(self, command: Command) -> None:
        if command.composite != self._composite:
            self._composite, self._composite_tck, self._row = command.composite, Fraction(0), (-1, -1)
            self._holds_rows = False
        row = (command.fields.get("grp", -1), command.fields.get("row", -1))
        is_row = command.opcode in _ROW_COMMANDS
        tck = duration_tck(self.config, command, self.settings, opens=row != self._row and not self._rows.explicit)
        self._bursts += command.fields["cnt"] + 1 if is_row else 0
        self._bursts += _kv_bursts(self.config, self.settings) if command.opcode is PimOpcode.KVAP else 0
        self._row = row if is_row else self._row
        self._tck += tck
        self._composite_tck += tck
        self._longest = max(self._longest, self._composite_tck)
        room = self.config.dram.refi - self.config.dram.rfc
        self._holds_rows |= is_row or command.opcode is PimOpcode.KVAP
        if self._holds_rows and self._composite_tck > room:
            self._refuse(PimErrorCause.COMPOSITE_TOO_LONG, command,
                         f"a composite must end within {room} clocks, between two refreshes, not {ceil(self._composite_tck)}")


def _all_lanes(command: Command) -> bool:
    """Return whether a command uses all lanes of the output buffer's entries."""
    match command.opcode:
        case PimOpcode.MAC:
            return command.fields["mode"] == MacMode.BCAST
        case PimOpcode.AF:
            return not command.fields["clr"]
        case opcode:
            return opcode in (PimOpcode.SFO, PimOpcode.MRG, PimOpcode.STS, PimOpcode.LDS)


def _said(entry: Entry) -> str:
    kind, number = entry
    return _SAID[kind].format(number)
