"""Decomposes activations into structured-sparse terms at run time (TASD-A)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["TasdUnit", "tasd_record_layout"]


@dataclass(frozen=True, slots=True)
class _Pick:
    """One extraction: the largest value left of `of` from `low` on goes to slots `first` … `first + keep − 1`."""

    first: int
    keep: int
    low: int
    of: int


def _picks(block: int, terms: tuple[tuple[int, int], ...]) -> list[_Pick]:
    picks, first = [], 0
    for keep, of in terms:
        for low in range(0, block, of):
            picks += [_Pick(first, keep, low, of)] * keep
            first += keep
    return picks


def tasd_record_layout(block: int, terms: tuple[tuple[int, int], ...]) -> data.StructLayout:
    """Return the layout of a block's terms: slots of value and place in the block, N of each M values for each term in turn.

    Places increase within the N of an M; slots that nothing was left for come last, their value and place zero.
    """
    slots = len(_picks(block, terms))
    return data.StructLayout({
        "values": data.ArrayLayout(signed(8), slots),
        "places": data.ArrayLayout(unsigned(max(1, ceil_log2(block))), slots),
        "filled": slots,
    })


class TasdUnit(wiring.Component):
    """Takes blocks of int8 and gives each as a series of N:M terms: greedily, the N largest magnitudes left of every M.

    Of equal magnitudes the lower place is taken first. One value a cycle, by a tree of magnitude comparators; so a block takes
    Σ N·(block/M) cycles, or as many as it has values that are not zero where these are fewer, but at least 1. Latency: so many
    cycles and one more; the next block is taken while the last value of this one is extracted. What no term has room for is
    dropped.

    Source: Jeong et al., TASD, MLSys 2025 (units that extract terms at run time: found; this datapath: inferred). To keep up with
    a core that takes b blocks a cycle, b·Σ N·(block/M) units work side by side.

    Parameters
    ----------
    block : int
        Values of a block.
    terms : tuple of (int, int)
        N and M of each term; every M divides the block.

    Members
    -------
    i : In(stream of block × signed(8)), o : Out(stream of `tasd_record_layout`)

    Raises
    ------
    ConfigError
        If there is no term, or one does not fit the block.
    """

    def __init__(self, *, block: int, terms: tuple[tuple[int, int], ...]):
        if not terms or any(not 1 <= keep <= of or block % of for keep, of in terms):
            raise ConfigError(f"TasdUnit.terms must be N:M with N from 1 to M and M dividing the block of {block}, not {terms!r}")
        self.block, self.terms = block, terms
        super().__init__({
            "i": In(stream.Signature(data.ArrayLayout(signed(8), block))),
            "o": Out(stream.Signature(tasd_record_layout(block, terms))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        picks = _picks(self.block, self.terms)
        record_layout = tasd_record_layout(self.block, self.terms)
        values = Signal(data.ArrayLayout(signed(8), self.block))
        left = Signal(self.block)                       # not zero and not taken
        pick, busy = Signal(range(len(picks))), Signal()
        record, following = Signal(record_layout), Signal(record_layout)

        magnitudes = [Mux(value < 0, -value, value)[:8] for value in values]
        window = Signal(self.block)
        m.d.comb += window.eq(Array(((1 << pick.of) - 1) << pick.low for pick in picks)[pick] & left)
        place, found = _largest(m, magnitudes, window)
        taken = Signal(self.block)
        m.d.comb += [taken.eq(Mux(found, 1 << place, 0)), following.eq(record)]
        for index, group in enumerate(dict.fromkeys(picks)):
            mine = Signal(name=f"mine_{index}")
            m.d.comb += mine.eq(found & Cat(pick == number for number, other in enumerate(picks) if other == group).any())
            self._insert(m, group, mine, record, following, place, Array(values)[place])

        # A block is through when no extraction behind this one would find anything, and the record has a place to go to.
        rest = Signal(self.block)
        following_pick, more = self._from(picks, rest, lambda number: pick < number if number else Const(0))
        through = Signal()
        m.d.comb += [
            rest.eq(left & ~taken),
            through.eq(busy & ~more & (~self.o.valid | self.o.ready)),
            self.i.ready.eq(~busy | through),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(through):
            m.d.sync += [self.o.p.eq(following), self.o.valid.eq(1), busy.eq(0)]
        with m.Elif(busy & more):
            m.d.sync += [record.eq(following), left.eq(rest), pick.eq(following_pick)]
        with m.If(self.i.valid & self.i.ready):
            nonzero = Cat(value != 0 for value in self.i.p)
            first, _ = self._from(picks, nonzero, lambda number: Const(1))
            m.d.sync += [values.eq(self.i.p), left.eq(nonzero), pick.eq(first), busy.eq(1), record.eq(0)]
        return m

    @staticmethod
    def _from(picks: list[_Pick], left: Value, behind: Callable[[int], Value]) -> tuple[Value, Value]:
        """Return the first extraction of those that count which finds something in `left`, and whether there is one."""
        chosen: Value = Const(0, range(len(picks)))
        finds = []
        for number, pick in reversed(list(enumerate(picks))):
            finds.append(behind(number) & left[pick.low:pick.low + pick.of].any())
            chosen = Mux(finds[-1], number, chosen)
        return chosen, Cat(finds).any()

    @staticmethod
    def _insert(m: Module, group: _Pick, mine: Value, record: Any, following: Any, place: Value, value: Value) -> None:
        """Put a value into its term's slots in order of place: those of higher places move up by one."""
        slots = range(group.first, group.first + group.keep)
        before = [record.filled[slot] & (record.places[slot] < place) for slot in slots]
        for number, slot in enumerate(slots):
            # Slots up to the new value's keep theirs; it goes behind the last one before it.
            is_new = ~before[number] & (before[number - 1] if number else Const(1))
            with m.If(mine & ~before[number]):
                if number:
                    m.d.comb += [following.values[slot].eq(Mux(is_new, value, record.values[slot - 1])),
                                 following.places[slot].eq(Mux(is_new, place, record.places[slot - 1])),
                                 following.filled[slot].eq(is_new | record.filled[slot - 1])]
                else:
                    m.d.comb += [following.values[slot].eq(value), following.places[slot].eq(place), following.filled[slot].eq(1)]


def _largest(m: Module, magnitudes: list[Value], window: Value) -> tuple[Value, Value]:
    """Return the place of the largest magnitude in `window`, of equals the lowest, and whether there is any."""
    bits = max(1, ceil_log2(len(magnitudes)))
    nodes = [(magnitude, Const(place, bits), window[place]) for place, magnitude in enumerate(magnitudes)]
    level = 0
    while len(nodes) > 1:
        joined = []
        for number in range(0, len(nodes) - 1, 2):
            (low, low_place, low_there), (high, high_place, high_there) = nodes[number:number + 2]
            upper = Signal(name=f"upper_{level}_{number}")
            m.d.comb += upper.eq(high_there & (~low_there | (high > low)))
            joined.append((Mux(upper, high, low), Mux(upper, high_place, low_place), low_there | high_there))
        nodes = joined + nodes[len(nodes) & ~1:]
        level += 1
    return nodes[0][1], nodes[0][2]
