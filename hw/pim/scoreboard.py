"""Scoreboard of dynamic command scheduling: two queues in order that pass each other where no buffer entry is shared."""

from enum import IntEnum
from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError

__all__ = ["QUEUES", "RANGES", "EntryKind", "Scoreboard", "range_layout", "scoreboard_layout"]

QUEUES = ("io", "compute")
RANGES = ("a", "b", "c")
"""Ranges of entries of a command."""


class EntryKind(IntEnum):
    """What a range of entries is of."""

    NONE = 0
    X = 1           # slices of the X buffer
    OUTPUT = 2      # entries of the output buffer
    SOFTMAX = 3     # heads of the softmax unit
    ALL = 4         # everything
    SIDE = 5        # bytes of the side table


_KIND_WIDTH = 3


def range_layout(width: int) -> data.StructLayout:
    """Return the layout of a range of entries that a command touches: first and last of them, and whether it writes them."""
    return data.StructLayout({"kind": _KIND_WIDTH, "first": width, "last": width, "write": 1})


def scoreboard_layout(shape: ShapeLike, width: int) -> data.StructLayout:
    """Return the layout of a command on its way in: its queue (1: compute), what it is, three ranges that it touches."""
    return data.StructLayout({"compute": 1, "payload": shape, **dict.fromkeys(RANGES, range_layout(width))})


def _conflict(one: Any, other: Any) -> Value:
    """Return whether two ranges share an entry that either writes."""
    everything = (one.kind == EntryKind.ALL) | (other.kind == EntryKind.ALL)
    nothing = (one.kind == EntryKind.NONE) | (other.kind == EntryKind.NONE)
    overlap = (one.kind == other.kind) & (one.first <= other.last) & (other.first <= one.last) & (one.write | other.write)
    return ~nothing & (everything | overlap)


class Scoreboard(wiring.Component):
    """Queues of commands for the I/O and the compute unit, in order each.

    A command that comes in is compared with all commands of the other queue that are not done: it leaves when those with which
    it shares an entry that one of them writes are done. In its own queue it leaves behind the one before; what a unit overlaps
    there is the unit's affair. With `dynamic` false it waits for all of the other queue, which makes both queues one stream.

    A command is offered from the cycle after it came in, or from the cycle after the last one that it waits for was done.

    Parameters
    ----------
    shape : ShapeLike
        Of a command.
    width : int
        Bits of an entry's number.
    depth : int
        Commands of each queue that are not done; a power of two.
    dynamic : bool

    Members
    -------
    i : In(stream of `scoreboard_layout`)
    o_io, o_compute : Out(stream of `shape`)
    done_io, done_compute : In(1)
        The oldest command that left by this queue, and is not done, is done.
    idle : Out(1)
        Every command is done.
    stall_hazard : Out(1)
        The first command of a queue waits for one of the other.

    Raises
    ------
    ConfigError
        If the depth is no power of two of at least 2.

    Reference --------- PIMphony (arXiv 2412.20166). How we differ: ranges of the commands that are not done are compared,
    instead of a table with the last command on each entry; and a command is done when its unit says so, since refreshes make
    times unpredictable.
    """

    def __init__(self, *, shape: ShapeLike, width: int, depth: int, dynamic: bool = True):
        if depth < 2 or depth & (depth - 1):
            raise ConfigError(f"Scoreboard.depth must be a power of two of at least 2, not {depth!r}")
        self._shape, self._width, self._depth, self._dynamic = shape, width, depth, dynamic
        super().__init__({
            "i": In(stream.Signature(scoreboard_layout(shape, width))),
            "o_io": Out(stream.Signature(shape)), "o_compute": Out(stream.Signature(shape)),
            "done_io": In(1), "done_compute": In(1), "idle": Out(1), "stall_hazard": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._depth
        index = range(depth)
        outputs, dones = (self.o_io, self.o_compute), (self.done_io, self.done_compute)
        # A slot is taken from the command's arrival until it is done.
        taken = [Signal(depth, name=f"{q}_taken") for q in QUEUES]
        waits = [[Signal(depth, name=f"{q}_waits{s}") for s in index] for q in QUEUES]
        touches = [[Signal(data.ArrayLayout(range_layout(self._width), len(RANGES)), name=f"{q}_touches{s}") for s in index]
                   for q in QUEUES]
        commands = [[Signal(self._shape, name=f"{q}_command{s}") for s in index] for q in QUEUES]
        tail, head, oldest = ([Signal(ceil_log2(depth), name=f"{q}_{name}") for q in QUEUES]
                              for name in ("tail", "head", "oldest"))
        left = [Signal(range(depth + 1), name=f"{q}_left") for q in QUEUES]         # that have not left their queue
        full = [taken[q].bit_select(tail[q], 1) for q in range(2)]
        m.d.comb += self.i.ready.eq(~Mux(self.i.p.compute, full[1], full[0]))
        hazards = []
        for q, (output, done) in enumerate(zip(outputs, dones, strict=True)):
            rival = 1 - q
            arrives, leaves = Signal(name=f"{QUEUES[q]}_arrives"), Signal(name=f"{QUEUES[q]}_leaves")
            ending = Signal(depth, name=f"{QUEUES[q]}_ending")        # slot that is done in this cycle
            rival_ending = Mux(dones[rival], 1 << oldest[rival], 0)
            first_waits = Array(waits[q])[head[q]]
            hazard = (left[q] != 0) & (first_waits != 0)
            hazards.append(hazard)
            m.d.comb += [
                arrives.eq(self.i.valid & self.i.ready & (self.i.p.compute == q)),
                output.valid.eq((left[q] != 0) & (first_waits == 0)),
                Value.cast(output.payload).eq(Array([Value.cast(c) for c in commands[q]])[head[q]]),
                leaves.eq(output.valid & output.ready),
                ending.eq(Mux(done, 1 << oldest[q], 0)),
            ]
            m.d.sync += [left[q].eq(left[q] + arrives - leaves), taken[q].eq(taken[q] & ~ending | (arrives << tail[q])),
                         head[q].eq(head[q] + leaves), tail[q].eq(tail[q] + arrives), oldest[q].eq(oldest[q] + done)]
            shared = Cat(self._shares(touches[rival][s]) for s in index) if self._dynamic else C((1 << depth) - 1, depth)
            for s in index:
                m.d.sync += waits[q][s].eq(waits[q][s] & ~rival_ending)
                with m.If(arrives & (tail[q] == s)):
                    m.d.sync += [waits[q][s].eq(shared & taken[rival] & ~rival_ending),
                                 *(touches[q][s][i].eq(self.i.p[name]) for i, name in enumerate(RANGES)),
                                 Value.cast(commands[q][s]).eq(Value.cast(self.i.p.payload))]
        m.d.comb += [self.idle.eq((taken[0] | taken[1]) == 0), self.stall_hazard.eq(hazards[0] | hazards[1])]
        return m

    def _shares(self, touched: Any) -> Value:
        """Return whether the command that comes in shares an entry with a slot's."""
        return reduce(or_, (_conflict(self.i.p[name], touched[i]) for name in RANGES for i in range(len(RANGES))))
