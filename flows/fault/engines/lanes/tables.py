"""A design and its target as the tables that the lanes run on: `flows/native/lanes_tables.h` has the same members."""

import ctypes
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.engines.lanes.segments import Segmentation, roots_of
from flows.fault.netlist.ir import WORD, Design
from flows.fault.netlist.sites import KINDS, Sites
from flows.fault.targets.target import Target, TargetError

__all__ = ["LanesTables", "Tables"]

NONE = 0xFFFFFFFF
_U32 = ctypes.c_uint32
_WORDS = ctypes.c_void_p


class _Rows(ctypes.Structure):
    _fields_ = [("start", _WORDS), ("items", _WORDS)]


class _Memory(ctypes.Structure):
    _fields_ = [*((name, _U32) for name in ("depth", "chunks", "key", "last_mask", "ranges")), ("range", _WORDS),
                ("contents", _WORDS)]


class _Read(ctypes.Structure):
    _fields_ = [("memory", _U32), ("address", _U32), ("enable", _U32)]


class _Write(ctypes.Structure):
    _fields_ = [("memory", _U32), ("address", _U32), ("data", _Rows)]


class Tables(ctypes.Structure):
    """What `fi_create` takes."""

    _fields_ = [
        *((name, _U32) for name in ("words", "units", "inputs", "cycles", "limit", "watchdog", "functions", "states", "memories",
                                    "reads", "writes", "observed", "sites", "done", "detected", "corrected", "violation")),
        ("unit_function", _WORDS), ("unit_inputs", _Rows), ("unit_outputs", _Rows), ("users", _Rows), ("feeds", _Rows),
        ("init", _WORDS), ("state_words", _WORDS), ("input_words", _WORDS), ("stimuli", _WORDS),
        ("memory", ctypes.POINTER(_Memory)), ("read", ctypes.POINTER(_Read)), ("write", ctypes.POINTER(_Write)),
        ("watch", _WORDS), ("site", _WORDS), ("gates", _Rows),
    ]


class LanesTables:
    """The tables of one target, and what they point to.

    Parameters
    ----------
    target : Target
        Its names checked (`flows.fault.engines.places.check_names`).
    design : Design
        Of the target's RTLIL.
    pieces : Segmentation
        Of the design.
    sites : Sites
        Of the target.

    Raises
    ------
    TargetError
        If a port that is a flag has more than one bit.
    """

    def __init__(self, target: Target, design: Design, pieces: Segmentation, sites: Sites):
        self.target, self.design, self.pieces, self.sites = target, design, pieces, sites
        self._kept: list[Any] = []
        self.words: dict[int, int] = {}
        self._number_words()
        self.tables = Tables(words=len(self.words), functions=len(pieces.functions), states=len(design.states),
                             memories=len(design.memories), sites=len(sites))
        self._state()
        self._memories()
        self._units()
        self._ports()
        self._sites()

    def _keep(self, values: Iterable[Any] | npt.NDArray[Any]) -> int:
        """Return the address of an array of 32-bit words that lives as long as this."""
        array = np.ascontiguousarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.uint32)
        self._kept.append(array)
        return int(array.ctypes.data)

    def _rows(self, rows: Sequence[Iterable[int]]) -> _Rows:
        lists = [list(row) for row in rows]
        start = np.concatenate([[0], np.cumsum([len(row) for row in lists], dtype=np.int64)])
        return _Rows(self._keep(start), self._keep([item for row in lists for item in row]))

    def _array(self, kind: Any, items: Sequence[Any]) -> Any:
        array = (kind * max(1, len(items)))(*items)
        self._kept.append(array)
        return array

    def _number_words(self) -> None:
        """Number what is a word of its own: what logic begins with, and what comes out of a segment."""
        nodes = [state.node for state in self.design.states]
        nodes += [piece.node for port in self.design.inputs.values() for piece in port]
        for memory in self.design.memories:
            nodes += [node for read in memory.reads for node in read.data]
        nodes += [node for piece in self.pieces.segments for node in piece.outputs]
        nodes += [node for node in roots_of(self.design) if self.design.nodes[node].op == "const"]
        for node in nodes:
            self.words.setdefault(node, len(self.words))

    def _state(self) -> None:
        init = np.zeros(len(self.words), np.uint32)
        feeds: dict[int, list[int]] = defaultdict(list)
        for state in self.design.states:
            init[self.words[state.node]] = state.init
            feeds[self.words[state.next]].append(self.words[state.node])
        for node, word in self.words.items():
            if self.design.nodes[node].op == "const":
                init[word] = self.design.nodes[node].number
        self.tables.init = self._keep(init)
        self.tables.state_words = self._keep(self.words[state.node] for state in self.design.states)
        self.tables.feeds = self._rows([feeds[word] for word in range(len(self.words))])

    def _memories(self) -> None:
        rows, key = [], 0
        self.keys: list[int] = []
        for memory in self.design.memories:
            contents = self.target.contents.get(memory.path, memory.init)
            ranges = self.target.observed_memory.get(memory.path, [])
            last = memory.width - WORD * (memory.chunks - 1)
            rows.append(_Memory(memory.depth, memory.chunks, key, (1 << last) - 1, len(ranges), self._keep(sum(ranges, ())),
                                self._keep(contents)))
            self.keys.append(key)
            key += memory.depth * memory.chunks
        self.tables.memory = self._array(_Memory, rows)

    def _units(self) -> None:
        """Put functions and reads into the order of their ranks, writes behind them."""
        words, functions = self.words, len(self.pieces.functions)
        units: list[tuple[int, int, list[int], list[int]]] = []
        for piece in self.pieces.segments:
            units.append((piece.rank, piece.function, piece.inputs, piece.outputs))
        reads: list[_Read] = []
        writes: list[_Write] = []
        for index, memory in enumerate(self.design.memories):
            for read in memory.reads:
                enable = NONE if read.enable is None else words[read.enable]
                wanted = [read.address] if read.enable is None else [read.address, read.enable]
                units.append((self.pieces.ranks[read.data[0]], functions + len(reads), wanted, list(read.data)))
                reads.append(_Read(index, words[read.address], enable))
        last = 1 + max((unit[0] for unit in units), default=0)
        for index, memory in enumerate(self.design.memories):
            for write in memory.writes:
                units.append((last, functions + len(reads) + len(writes), [write.address, *write.data, *write.mask], []))
                writes.append(_Write(index, words[write.address], self._rows([[words[n] for n in write.data],
                                                                              [words[n] for n in write.mask]])))
        order = sorted(range(len(units)), key=lambda i: units[i][:2])
        self.unit_of_segment = {segment: place for place, segment in enumerate(order) if segment < len(self.pieces.segments)}
        users: dict[int, dict[int, None]] = defaultdict(dict)
        for place, i in enumerate(order):
            for node in units[i][2]:
                users[words[node]][place] = None
        tables = self.tables
        tables.units, tables.reads, tables.writes = len(units), len(reads), len(writes)
        tables.read, tables.write = self._array(_Read, reads), self._array(_Write, writes)
        tables.unit_function = self._keep(units[i][1] for i in order)
        tables.unit_inputs = self._rows([[words[node] for node in units[i][2]] for i in order])
        tables.unit_outputs = self._rows([[words[node] for node in units[i][3]] for i in order])
        tables.users = self._rows([users[word] for word in range(len(words))])

    def _bit(self, port: str | None) -> int:
        if port is None:
            return NONE
        pieces = self.design.outputs[port]
        if sum(piece.width for piece in pieces) != 1:
            raise TargetError(f"{port} must have one bit, not {sum(piece.width for piece in pieces)}")
        return self.words[pieces[0].node]

    def _ports(self) -> None:
        target, tables = self.target, self.tables
        for name in ("done", "detected", "corrected", "violation"):
            setattr(tables, name, self._bit(getattr(target, name)))
        tables.cycles = target.cycles if target.done is None else max([1, *(len(rows) for rows in target.stimuli.values())])
        tables.limit = target.cycles if target.done is None else target.limit
        tables.watchdog = target.watchdog
        columns, places = [], []
        for port, pieces in self.design.inputs.items():
            if port in target.stimuli:
                bits = target.words(port, tables.cycles).astype("<u4").view(np.uint8)
                bits = np.unpackbits(bits.reshape(tables.cycles, -1), axis=1, bitorder="little")
                for piece in pieces:
                    own = np.zeros((tables.cycles, WORD), np.uint8)
                    part = bits[:, piece.low:piece.low + piece.width]
                    own[:, :part.shape[1]] = part
                    columns.append(np.packbits(own, axis=1, bitorder="little").view("<u4")[:, 0])
                    places.append(self.words[piece.node])
        tables.inputs = len(columns)
        tables.input_words = self._keep(places)
        tables.stimuli = self._keep(np.stack(columns, axis=1) if columns else np.zeros(0))
        watched = []
        for port in target.observed:
            valid = self._bit(target.valid.get(port))
            watched += [number for piece in self.design.outputs[port] for number in (self.words[piece.node], valid, piece.width)]
        tables.observed = len(watched) // 3
        tables.watch = self._keep(watched)

    def _sites(self) -> None:
        """Say of each site which word, which memory word, or which operations of which units it is."""
        gates: dict[int, list[int]] = defaultdict(list)
        wanted = {gate.node for gate in self.design.gates}
        for segment, piece in enumerate(self.pieces.segments):
            for operation, node in enumerate(piece.members):
                if node in wanted:
                    gates[node] += [self.unit_of_segment[segment], operation]
        self.tables.gates = self._rows([gates[gate.node] for gate in self.design.gates])
        table = self.sites.table
        item = table["item"].astype(np.int64)
        state_words = np.array([self.words[state.node] for state in self.design.states] or [0])
        keys = np.array(self.keys or [0])
        chunks = np.array([memory.chunks for memory in self.design.memories] or [1])
        kind = table["kind"]
        found = item.copy()
        ff, memory, bus = (kind == KINDS.index(name) for name in ("ff", "memory", "bus"))
        found[ff] = state_words[item[ff]]
        found[memory] = (keys[item[memory]] + table["address"][memory].astype(np.int64) * chunks[item[memory]]
                         + table["low"][memory] // WORD)
        found[bus] = [self.words[int(node)] for node in item[bus]]
        self.tables.site = self._keep(np.stack([kind.astype(np.int64), found], axis=1))
