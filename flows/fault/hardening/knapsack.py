"""Which mechanism each group gets: the multiple-choice knapsack, solved exactly, with its whole Pareto curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Frontier", "Option", "frontier", "greedy_order"]

UNITS = 1_000_000
"""Parts into which the residual of everything unprotected is cut; each option's is rounded up to one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One thing to do with a group.

    Attributes
    ----------
    name : str
    area : float
        What it adds, ≥ 0.
    residual : float
        What is left of the group's rate of dangerous upsets, ≥ 0.
    """

    name: str
    area: float
    residual: float


@dataclass(frozen=True)
class Frontier:
    """Every combination of options that no other beats in both area and residual, by area.

    Attributes
    ----------
    areas, residuals : (n,) float
        Rising, and falling: sums over the groups.
    """

    areas: npt.NDArray[np.float64]
    residuals: npt.NDArray[np.float64]
    _steps: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]]

    def cheapest(self, most: float) -> int:
        """Return the place of the cheapest combination with a residual of at most `most`.

        Raises
        ------
        ValueError
            If there is none.
        """
        fits = np.flatnonzero(self.residuals <= most)
        if not len(fits):
            raise ValueError(f"the residual rate must be at least {self.residuals[-1]:.4g}, which is left with everything "
                             f"protected, not {most:.4g}")
        return int(fits[0])

    def choice(self, place: int) -> list[int]:
        """Return the option of each group in the combination at `place`."""
        chosen = []
        for parents, options in reversed(self._steps):
            chosen.append(int(options[place]))
            place = int(parents[place])
        return chosen[::-1]


def frontier(groups: Sequence[Sequence[Option]]) -> Frontier:
    """Return the Pareto curve of choosing one option for each group.

    Dynamic programming over lists of undominated states (Nemhauser and Ullmann, Discrete dynamic programming and capital
    allocation, Management Science 1969). Residuals count in millionths of the largest sum, rounded up, so that lists stay short:
    what is promised is too high by at most a millionth a group, and never too low.

    Raises
    ------
    ValueError
        If a group has no option, or one whose area or residual is not a number ≥ 0.
    """
    for index, options in enumerate(groups):
        if not options:
            raise ValueError(f"group {index} must have an option, not none")
        for option in options:
            for name in ("area", "residual"):
                value = getattr(option, name)
                if not (math.isfinite(value) and value >= 0):
                    raise ValueError(f"{name} of option {option.name!r} must be a number ≥ 0, not {value!r}")
    unit = sum(max(option.residual for option in options) for options in groups) / UNITS or 1.0
    areas, left = np.zeros(1), np.zeros(1, np.int64)
    steps = []
    for options in groups:
        more_area = np.concatenate([areas + option.area for option in options])
        more_left = np.concatenate([left + math.ceil(option.residual / unit - 1e-9) for option in options])
        order = np.lexsort((more_left, more_area))
        least = np.minimum.accumulate(more_left[order])
        better = np.ones(len(order), bool)
        better[1:] = more_left[order][1:] < least[:-1]
        kept = order[better]
        steps.append(((kept % len(areas)).astype(np.int32), (kept // len(areas)).astype(np.int8)))
        areas, left = more_area[kept], more_left[kept]
    return Frontier(areas, (left * unit).astype(np.float64), steps)


def greedy_order(groups: Sequence[Sequence[Option]]) -> list[tuple[int, int, float]]:
    """Return (group, option, residual saved per area) of each group's best step from its first option, best first.

    What a person would protect first; where the frontier is convex both agree.
    """
    found = []
    for index, (first, *others) in enumerate(groups):
        gains = [((first.residual - option.residual) / max(1e-12, option.area - first.area), place)
                 for place, option in enumerate(others, 1) if option.residual < first.residual]
        if gains:
            gain, place = max(gains)
            found.append((index, place, gain))
    return sorted(found, key=lambda item: -item[2])
