"""AttAcc's attention in cycles: a closed form, and a model of its command stream.

Source: Park et al., AttAcc, ASPLOS 2024. A head is on one channel of 2 pseudo-channels × 2 ranks × 4 bank groups × 4 banks,
with a unit of 16 lanes in every bank, in every bank group, or one for each pseudo-channel on the buffer die. Tokens lie over
the 16 bank groups, elements of a head over the 4 banks of each. Two heads share the time: scores of one while the other is in
the softmax.

The closed form has no fitted constant. How we differ: the authors simulate every command in a DRAM simulator; `simulate` keeps
the MACs as runs of whole rows, and the softmax's moves as the slots that they take on the data bus.
"""

from dataclasses import dataclass
from fractions import Fraction

from hw.config import ceil_div
from hw.pim.timing import DramTiming, timing_named

__all__ = ["MEASURED", "AttAccPoint", "closed_form", "simulate"]

CHANNELS = 16               # of a stack
UNITS = 16                  # bank groups of a channel: 2 pseudo-channels × 2 ranks × 4
SOFTMAX_LANES = 256
SOFTMAX_SLOT = 16           # DRAM clocks for 256 scores, all three stages
SCORES_MOVED = 32           # scores in a move between the units and the softmax buffer


@dataclass(frozen=True, kw_only=True, slots=True)
class AttAccPoint:
    """One configuration: where the units are, how often they may read, and the work of a stack.

    Attributes
    ----------
    place : str
        "bank", "bank-group" or "buffer".
    limited : bool
        Whether the power limit holds: a MAC of all banks every 6 clocks instead of 4.
    tokens, heads : int
        Context length, and heads on the stack.
    head_dim, element_bytes : int
    """

    place: str
    limited: bool
    tokens: int
    heads: int
    head_dim: int = 128
    element_bytes: int = 2

    def __post_init__(self) -> None:
        """Check every field."""
        if self.place not in _PLACES:
            raise ValueError(f"AttAccPoint.place must be one of {', '.join(_PLACES)}, not {self.place!r}")
        for name in ("tokens", "heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"AttAccPoint.{name} must be at least 1, not {getattr(self, name)!r}")
        if self.element_bytes not in (1, 2, 4):
            raise ValueError(f"AttAccPoint.element_bytes must be 1, 2 or 4, not {self.element_bytes!r}")

    @property
    def rounds(self) -> int:
        """Heads that one channel takes, one after the other."""
        return ceil_div(self.heads, CHANNELS)

    @property
    def macs(self) -> int:
        """MAC commands for the scores of a head, and as many for the product with V."""
        burst = 32 // self.element_bytes
        if self.place == "bank":
            return ceil_div(self.tokens, UNITS) * ceil_div(self.head_dim, 4 * burst)
        units = UNITS if self.place == "bank-group" else 2
        return ceil_div(ceil_div(self.tokens * self.head_dim, burst), units)

    def interval(self, dram: DramTiming) -> int:
        """Return the clocks from a MAC to the next."""
        return dram.ccd_s if self.place == "buffer" else 6 if self.limited else dram.ccd_l

    def row_gap(self, dram: DramTiming) -> int:
        """Return the clocks that a new row adds: only where all banks change rows together."""
        return dram.row_turnaround - self.interval(dram) if self.place == "bank" else 0


_PLACES = ("bank", "bank-group", "buffer")


def closed_form(point: AttAccPoint, *, timing: str = "hbm3-5.2") -> Fraction:
    """Return the DRAM clocks of all heads: MACs and rows, stretched by refreshes; the softmax is hidden.

    Within 5 % of the authors' simulation for an even number of at least 4 rounds and 2048 tokens or more.
    """
    dram = timing_named(timing)
    macs = 2 * point.macs
    core = macs * point.interval(dram) + Fraction(macs, dram.columns) * point.row_gap(dram)
    return point.rounds * core * Fraction(dram.refi, dram.refi - dram.rfc)


def simulate(point: AttAccPoint, *, timing: str = "hbm3-5.2") -> int:
    """Return the DRAM clocks of all heads from a model of the command stream of one channel.

    In order: scores of heads 2j and 2j+1, then their products with V; each of those waits for its head's softmax, which waits for
    the last score. Moves to and from the softmax buffer, 4 clocks each, are on the data bus beside the MACs. When a
    refresh is due, it comes between two commands, after closing rows.
    """
    dram = timing_named(timing)
    clock = _Clock(dram, point.interval(dram), point.row_gap(dram))
    softmax_free, ready = 0, [0] * point.rounds
    moves = ceil_div(point.tokens, SCORES_MOVED) * dram.ccd_l
    for first in range(0, point.rounds, 2):
        pair = range(first, min(first + 2, point.rounds))
        for head in pair:
            clock.run(point.macs)
            slots = ceil_div(point.tokens, SOFTMAX_LANES) * SOFTMAX_SLOT
            softmax_free = max(softmax_free, clock.now + dram.cl + dram.bl) + slots     # the last scores leave behind their MACs
            ready[head] = softmax_free + min(moves, SCORES_MOVED * dram.ccd_l)          # the first weights have come back
            softmax_free += moves - min(moves, SCORES_MOVED * dram.ccd_l)
        for head in pair:
            clock.wait(ready[head])
            clock.run(point.macs)
    return clock.now + dram.row_turnaround


class _Clock:
    """Time of one channel's MAC stream: rows are opened as they are needed, refreshes come when they are due."""

    def __init__(self, dram: DramTiming, interval: int, row_gap: int):
        self.now = dram.rcd_mac
        self._dram, self._interval, self._row_gap = dram, interval, row_gap
        self._due = dram.refi
        self._in_row = 0

    def wait(self, until: int) -> None:
        """Stand still until a time."""
        self.now = max(self.now, until)

    def run(self, macs: int) -> None:
        """Issue MACs, row after row."""
        while macs:
            if self.now >= self._due:
                self.now += self._dram.rtp_l + self._dram.rp + self._dram.rfc + self._dram.rcd_mac
                self._due += self._dram.refi
            burst = min(macs, self._dram.columns - self._in_row)
            self.now += burst * self._interval
            self._in_row += burst
            macs -= burst
            if self._in_row == self._dram.columns:
                self.now += self._row_gap
                self._in_row = 0


MEASURED: tuple[tuple[AttAccPoint, int], ...] = tuple(
    (AttAccPoint(place=place, limited=limited, tokens=tokens, heads=heads), cycles)
    for place, limited, tokens, heads, cycles in (
        ("bank", True, 512, 512, 33157), ("bank", True, 1024, 512, 65705), ("bank", True, 2048, 60, 16383),
        ("bank", True, 4096, 116, 65600), ("bank", True, 4096, 188, 99626), ("bank", False, 4096, 188, 73339),
        ("bank-group", True, 4096, 188, 325445), ("bank-group", False, 4096, 188, 216779), ("buffer", False, 4096, 188, 871721)))
"""Points with the clocks of the authors' own simulation (results in their repository, MIT licence)."""
