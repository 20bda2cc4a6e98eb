"""What a campaign draws from: every place in every cycle."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.patterns import Patterns, lowest_bits

__all__ = ["Population"]


@dataclass(frozen=True, kw_only=True)
class Population:
    """All faults that can be drawn: places, which are patterns of bits of words, and cycles.

    Attributes
    ----------
    sites : (W,) uint32
        Indices of the target's sites.
    widths : (W,) int
        Bits of each, 1 to 32.
    labels : (W,) int
        Which class each belongs to, for strata.
    classes : sequence of str
        Names of the classes.
    phases : (cycles,) int
        Which phase each cycle belongs to.
    phase_names : sequence of str
    split_bits : bool
        Whether the upper and the lower half of a word are strata of their own.
    by_phase : bool
        Whether the phases are.
    patterns : Patterns
        Of each word: its single bits, unless a plan draws others.
    first_places : (W + 1,) int
        Where each word's places begin, and where the last one's end.
    """

    sites: npt.NDArray[np.uint32]
    widths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str]
    phases: npt.NDArray[np.int64]
    phase_names: Sequence[str] = ("all",)
    split_bits: bool = False
    by_phase: bool = True
    patterns: Patterns = field(default_factory=Patterns)
    first_places: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not len(self.sites) or not len(self.phases):
            raise ValueError(f"a population must have sites and cycles, not {len(self.sites)} and {len(self.phases)}")
        counts = self.patterns.counts(self.widths)
        object.__setattr__(self, "first_places", np.concatenate(([0], np.cumsum(counts))).astype(np.int64))

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return int(self.widths.sum())

    @property
    def places(self) -> int:
        """Patterns of bits that can be hit: the bits, where faults are of single ones."""
        return int(self.first_places[-1])

    @property
    def cycles(self) -> int:
        """Cycles in which a fault can begin."""
        return len(self.phases)

    @property
    def size(self) -> int:
        """Faults that there are."""
        return self.places * self.cycles

    def word_of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the word (row, not site) in which each place lies."""
        return np.searchsorted(self.first_places, places, side="right") - 1

    def words(self) -> npt.NDArray[np.int64]:
        """Return the word of every place."""
        return np.repeat(np.arange(len(self.widths)), np.diff(self.first_places))

    def masks(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Return which bits of its word each place is."""
        words = self.word_of(places)
        return self.patterns.masks(self.widths[words], places - self.first_places[words])

    def lows(self) -> npt.NDArray[np.int64]:
        """Return the lowest bit, in its word, of every place."""
        return lowest_bits(self.masks(np.arange(self.places)))

    def time_classes(self) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
        """Return the class of every cycle, and the names of the classes."""
        return (self.phases, self.phase_names) if self.by_phase else (np.zeros(self.cycles, np.int64), ("all",))

    def place_classes(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Return the class of every place, and the names of the classes."""
        words = self.words()
        labels, names = self.labels[words], list(self.classes)
        if self.split_bits:
            labels = 2 * labels + (2 * self.lows() >= self.widths[words])
            names = [f"{name}, {half}" for name in names for half in ("low bits", "high bits")]
        return labels, names
