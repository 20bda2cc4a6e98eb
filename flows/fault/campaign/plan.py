"""What a campaign draws: the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flows.fault.records import UPSETS, Kind

__all__ = ["METHODS", "Plan", "boosts_from", "kind_named"]

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
        Bits of an MBU, 2 to 4; 0: any of these, every pattern of neighbours alike.
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
