"""Which faults a campaign injects: the plan, and the population that it draws from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.records import UPSETS, Kind

__all__ = ["METHODS", "Plan", "Population", "boosts_from", "kind_named"]

METHODS = ("uniform", "stratified", "importance", "exhaustive")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a campaign draws.

    Attributes
    ----------
    method : str
        "uniform": every bit in every cycle alike, without replacement. "stratified": so within each stratum, which get shares of
        their own. "importance": strata drawn by boosted probabilities, with replacement. "exhaustive": all there are, by cycle.
    kind : Kind
    seed : int
    duration : int
        Cycles of a SET, a stuck-at (0: for ever), an intermittent fault or a bus error.
    adjacent : int
        Bits of an MBU, 2 to 4; 0 draws each of these alike.
    boosts : tuple of (glob of stratum names, factor)
        By how much likelier than uniform strata are drawn, of "importance"; the last that matches holds.

    Raises
    ------
    ValueError
        If a value is impossible.
    """

    method: str = "uniform"
    kind: Kind = Kind.SEU
    seed: int = 0
    duration: int = 0
    adjacent: int = 0
    boosts: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed must be between 0 and 2^64 - 1, not {self.seed!r}")
        if not 0 <= self.duration < 1 << 32:
            raise ValueError(f"duration must be between 0 and 2^32 - 1 cycles, not {self.duration!r}")
        if self.adjacent not in (0, 2, 3, 4):
            raise ValueError(f"adjacent bits of an MBU must be 2, 3 or 4, not {self.adjacent!r}")
        if self.adjacent and self.kind != Kind.MBU:
            raise ValueError(f"adjacent bits need the kind mbu, not {self.kind.name.lower()!r}")
        if self.duration and self.kind in UPSETS:
            raise ValueError(f"a duration needs a kind that lasts, not {self.kind.name.lower()!r}")
        for glob, factor in self.boosts:
            if not (factor > 0 and np.isfinite(factor)):
                raise ValueError(f"boost of {glob!r} must be a positive number, not {factor!r}")
        if self.boosts and self.method != "importance":
            raise ValueError(f"boosts need the method importance, not {self.method!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON types."""
        return {**asdict(self), "kind": self.kind.name.lower(), "boosts": [list(pair) for pair in self.boosts]}


@dataclass(frozen=True, kw_only=True)
class Population:
    """All faults that can be drawn: bits of words, and cycles.

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
    """

    sites: npt.NDArray[np.uint32]
    widths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str]
    phases: npt.NDArray[np.int64]
    phase_names: Sequence[str] = ("all",)
    split_bits: bool = False
    by_phase: bool = True
    first_bits: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not len(self.sites) or not len(self.phases):
            raise ValueError(f"a population must have sites and cycles, not {len(self.sites)} and {len(self.phases)}")
        object.__setattr__(self, "first_bits", np.concatenate(([0], np.cumsum(self.widths))).astype(np.int64))

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return int(self.first_bits[-1])

    @property
    def cycles(self) -> int:
        """Cycles in which a fault can begin."""
        return len(self.phases)

    @property
    def size(self) -> int:
        """Faults that there are."""
        return self.bits * self.cycles

    def word_of(self, bits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the word (row, not site) in which each bit lies."""
        return np.searchsorted(self.first_bits, bits, side="right") - 1

    def time_classes(self) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
        """Return the class of every cycle, and the names of the classes."""
        return (self.phases, self.phase_names) if self.by_phase else (np.zeros(self.cycles, np.int64), ("all",))

    def bit_classes(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Return the class of every bit, and the names of the classes."""
        labels, names = np.repeat(self.labels, self.widths), list(self.classes)
        if self.split_bits:
            places = np.arange(self.bits) - np.repeat(self.first_bits[:-1], self.widths)
            upper = 2 * places >= np.repeat(self.widths, self.widths)
            labels, names = 2 * labels + upper, [f"{name}, {half}" for name in names for half in ("low bits", "high bits")]
        return labels, names


def boosts_from(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return what `GLOB=FACTOR` texts say."""
    found: dict[str, float] = {}
    for text in texts:
        glob, _, factor = text.rpartition("=")
        try:
            found[glob] = float(factor)
        except ValueError:
            glob = ""
        if not glob:
            raise ValueError(f"--boost must be GLOB=FACTOR, such as 'control*=4', not {text!r}")
    return tuple(found.items())


def kind_named(name: str) -> Kind:
    """Return the kind of fault called `name`."""
    kinds: Mapping[str, Kind] = {kind.name.lower(): kind for kind in Kind}
    if name not in kinds:
        raise ValueError(f"--kind must be one of {', '.join(kinds)}, not {name!r}")
    return kinds[name]
