"""Fault sites: every bit of state in the netlist, gate outputs and bus taps, as words of at most 32 bits with a place and a name.

Sites come from the cells that hold state, never from names of signals: what only has a register's name is an alias, and an alias
takes a flip and loses it.

Strata
------
memory
    Words of memories, the queues' among them.
config
    Registers of an instance called `csr`: what software has set, and what it reads back.
control
    Registers of one bit; those whose name, or whose instance's name, says that it keeps order: states, handshakes, pointers,
    counts, queues, fetch and sequencing.
data
    All others.
"""

import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.netlist.flat_netlist import NetlistError
from flows.fault.netlist.ir import WORD, Design
from flows.fault.netlist.lowering import design_of
from flows.fault.targets.target import Target

__all__ = ["KINDS", "SITE", "STRATA", "SiteError", "SiteRegister", "Sites", "sites_of"]

KINDS = ("ff", "memory", "gate", "bus")
STRATA = ("data", "control", "config", "memory")

SITE = np.dtype([("kind", "u1"), ("width", "u1"), ("stratum", "u1"), ("unit", "<u2"), ("register", "<u4"), ("low", "<u4"),
                 ("address", "<u4"), ("item", "<u4")])
"""A site: `kind` and `stratum` index `KINDS` and `STRATA`, `unit` and `register` the lists of `Sites`; `low` is the word's first
bit in its register, memory word, gate output or bus, `address` the word of a memory; `item` indexes the design's states,
memories or gates, or is the node of a bus."""

_ORDERS = re.compile(
    r"state|valid|ready|busy|pending|level|count|pointer|head|tail|phase|full|empty|grant|select|first|last|active|running|enable"
    r"|credit|stalled|waiting|outstanding|turn|done|control|order|(^|_)pc($|_)|load_row|shift$")
_KEEPS_ORDER = re.compile(
    r"queue|fifo|sequencer|fetch|arbiter|semaphores|supervisor|loops|cursor|walker|order|decode|controller|drain|in_flight")


class SiteError(ValueError):
    """Sites that are not there; the text names what is near."""


@dataclass(frozen=True, slots=True)
class SiteRegister:
    """What sites are words of: a register, a memory, a gate's output or a bus.

    Attributes
    ----------
    path : str
        Instance path and name.
    width : int
        Bits; of a memory, bits of one word.
    depth : int
        Words of a memory, else 1.
    first, count : int
        Its sites; those of a memory by address, then by 32-bit chunk.
    source : str
        `file:line`, where known.
    """

    path: str
    width: int
    depth: int
    first: int
    count: int
    source: str = ""


@dataclass(frozen=True, eq=False)
class Sites:
    """All sites of a target.

    Attributes
    ----------
    table : ndarray of SITE
    registers : list of SiteRegister
    units : list of str
        Blocks of the accelerator, or of the array.
    safe_bits : int
        Flip-flop bits of the design that nothing reads, and that have no site: safe by construction.
    """

    table: npt.NDArray[np.void]
    registers: list[SiteRegister]
    units: list[str]
    safe_bits: int

    def __len__(self) -> int:
        return len(self.table)

    def path(self, site: int) -> str:
        """Return the path of the register, memory, gate or bus that a site is a word of."""
        return self.registers[int(self.table["register"][site])].path

    def name(self, site: int) -> str:
        """Return path, address and bits of a site, for people: `dut.scratchpad.bank_0.array[12][31:0]`."""
        row = self.table[site]
        address = f"[{row['address']}]" if KINDS[row["kind"]] == "memory" else ""
        return f"{self.path(site)}{address}[{row['low'] + row['width'] - 1}:{row['low']}]"

    @property
    def bits(self) -> npt.NDArray[np.int64]:
        """Bits of each site."""
        return self.table["width"].astype(np.int64)

    def of_kind(self, *kinds: str) -> npt.NDArray[np.int64]:
        """Return the sites of some kinds, in order."""
        return np.flatnonzero(np.isin(self.table["kind"], [KINDS.index(kind) for kind in kinds]))

    def select(self, glob: str) -> npt.NDArray[np.int64]:
        """Return the sites whose path matches `glob`, in order.

        Raises
        ------
        SiteError
            If nothing matches.
        """
        found = [register for register in self.registers if fnmatch.fnmatchcase(register.path, glob)]
        if not found:
            paths = [register.path for register in self.registers]
            near = difflib.get_close_matches(glob, paths, 3, 0.3)
            raise SiteError(f"sites must match something: {glob!r} matches none of {len(paths)} registers and memories"
                            + (f"; near: {', '.join(near)}" if near else ""))
        return np.concatenate([np.arange(register.first, register.first + register.count) for register in found])

    def site_of(self, path: str, bit: int = 0, address: int = 0) -> tuple[int, int]:
        """Return (site, mask) of one bit of a register, or of a word of a memory.

        Raises
        ------
        SiteError
            If there is no such bit.
        """
        for register in self.registers:
            if register.path == path and 0 <= address < register.depth:
                chunks = register.count // register.depth
                first = register.first + address * chunks
                for site in range(first, first + chunks):
                    low, width = int(self.table["low"][site]), int(self.table["width"][site])
                    if low <= bit < low + width:
                        return site, 1 << (bit - low)
        self.select(path)
        raise SiteError(f"{path} must have bit {bit} of word {address}")


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(path, f"{glob}.*") for glob in globs)


def _stratum(path: str, width: int) -> int:
    *scopes, name = path.split(".")
    if "csr" in scopes:
        return STRATA.index("config")
    if width == 1 or _ORDERS.search(name) or any(_KEEPS_ORDER.search(scope) for scope in scopes[-2:]):
        return STRATA.index("control")
    return STRATA.index("data")


class _Table:
    """Rows of sites on their way into a table."""

    def __init__(self, strip: str):
        self.strip = strip
        self.rows: list[npt.NDArray[np.void]] = []
        self.count = 0
        self.registers: list[SiteRegister] = []
        self.units: dict[str, int] = {}

    def unit(self, path: str) -> int:
        first, *rest = path.removeprefix(self.strip).split(".")
        if first in ("mesh", "array") and len(rest) > 1:
            first = rest[0]                     # of an array alone: its rows
        return self.units.setdefault(first if rest else "top", len(self.units))

    def add(self, kind: str, path: str, words: list[tuple[int, int, int]], *, width: int, depth: int = 1, stratum: int,
            source: str = "") -> None:
        """Add a register: its words as (low, width, item), for each of `depth` addresses."""
        rows = np.zeros((depth, len(words)), SITE)
        rows["kind"], rows["stratum"], rows["unit"] = KINDS.index(kind), stratum, self.unit(path)
        rows["register"] = len(self.registers)
        for column, name in enumerate(("low", "width", "item")):
            rows[name] = [word[column] for word in words]
        rows["address"] = np.arange(depth)[:, None]
        self.registers.append(SiteRegister(path, width, depth, self.count, depth * len(words), source))
        self.rows.append(rows.reshape(-1))
        self.count += depth * len(words)


def sites_of(target: Target, *, gates: bool = False) -> Sites:
    """Return the sites of a target: flip-flops, buses, memories, and with `gates` the outputs of logic cells, in this order.

    Raises
    ------
    NetlistError
        If the netlist cannot be simulated.
    SiteError
        If a glob of the environment matches no instance.
    """
    design = design_of(target.rtlil, target.top)
    for glob in target.environment:
        if not any(_matches(scope, (glob,)) for scope in design.scopes):
            raise SiteError(f"Target.environment must be globs of instance paths that there are, not {glob!r}")
    table = _Table("dut." if any(scope.split(".")[0] == "dut" for scope in design.scopes) else "")
    _flip_flops(table, design, target.environment)
    for bus, port in target.taps.items():
        if port not in design.inputs:
            raise NetlistError(f"Target.taps[{bus!r}] must be an input of {target.top!r}, not {port!r}")
        pieces = design.inputs[port]
        table.add("bus", bus, [(piece.low, piece.width, piece.node) for piece in pieces], stratum=STRATA.index("data"),
                  width=sum(piece.width for piece in pieces))
    for index, memory in enumerate(design.memories):
        if not _matches(design.scopes[memory.scope], target.environment):
            chunks = [(low, min(WORD, memory.width - low), index) for low in range(0, memory.width, WORD)]
            table.add("memory", memory.path, chunks, width=memory.width, depth=memory.depth, stratum=STRATA.index("memory"))
    if gates:
        _gates(table, design, target.environment)
    rows: Any = np.concatenate(table.rows) if table.rows else np.zeros(0, SITE)
    return Sites(rows, table.registers, list(table.units), design.unread_bits)


def _flip_flops(table: _Table, design: Design, environment: tuple[str, ...]) -> None:
    words: dict[int, list[tuple[int, int, int]]] = {}
    for index, state in enumerate(design.states):
        words.setdefault(state.register, []).append((state.low, design.nodes[state.node].width, index))
    by_path: dict[str, list[int]] = {}
    for index, register in enumerate(design.registers):
        if index in words and not _matches(design.scopes[register.scope], environment):
            by_path.setdefault(register.path, []).append(index)
    for path, indices in by_path.items():       # a register whose bits have different resets is several cells
        parts = sorted(word for index in indices for word in words[index])
        width = sum(design.registers[index].width for index in indices)
        table.add("ff", path, parts, width=width, stratum=_stratum(path, width), source=design.registers[indices[0]].source)


def _gates(table: _Table, design: Design, environment: tuple[str, ...]) -> None:
    found: dict[str, list[tuple[int, int, int]]] = {}
    for index, gate in enumerate(design.gates):
        node = design.nodes[gate.node]
        if node.op not in ("state", "input", "read") and not _matches(design.scopes[node.scope], environment):
            found.setdefault(gate.path, []).append((gate.low, node.width, index))
    for path, words in found.items():
        table.add("gate", path, words, width=sum(word[1] for word in words), stratum=_stratum(path, 2))
