"""Fault i of a plan: drawn alone, in any order, by any process."""

from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.patterns import patterns_of
from flows.fault.campaign.permutation import Permutation
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.population import Population
from flows.fault.records import FAULT

__all__ = ["Sampler"]

_PLACES = 44
"""Bits of a fault's index below the number of its stratum."""


class Sampler:
    """Fault `index` of a plan, a function of the plan, the population and the index alone.

    An index is (stratum << 44) | place within the stratum's order; with one stratum it counts 0, 1, 2, … An index of an
    importance sample counts draws, and its stratum is drawn as well. Numbers come from Philox(seed, …), block `index`.

    Parameters
    ----------
    plan : Plan
    population : Population

    Raises
    ------
    ValueError
        If a boost matches no stratum.

    Attributes
    ----------
    names : list of str
        Of the strata.
    sizes : list of int
        Faults in each.
    """

    def __init__(self, plan: Plan, population: Population):
        self.plan, self.population = plan, replace(population, patterns=patterns_of(plan))
        if plan.method in ("uniform", "exhaustive"):
            self.names, self.sizes = ["all"], [self.population.size]
        else:
            self._split()
        self._orders: dict[int, Permutation] = {}
        if plan.method == "importance":
            for glob, _ in plan.boosts:
                if not any(fnmatchcase(name, glob) for name in self.names):
                    raise ValueError(f"--boost must match a stratum, such as {self.names[0]!r}, not {glob!r}")
            sizes = np.asarray(self.sizes, dtype=float)
            share = sizes / sizes.sum()
            score = share * [self._boost(name) for name in self.names]
            self._score = score / score.sum()
            self._weight = share / self._score

    def _split(self) -> None:
        """Make a stratum of each class of bits in each phase that has any."""
        population = self.population
        labels, classes = population.place_classes()
        times, phases = population.time_classes()
        self.names, self.sizes = [], []
        self._places: list[npt.NDArray[np.int64]] = []
        self._cycles: list[npt.NDArray[np.int64]] = []
        for label, name in enumerate(classes):
            places = np.flatnonzero(labels == label)
            for phase, phase_name in enumerate(phases):
                cycles = np.flatnonzero(times == phase)
                if len(places) and len(cycles):
                    self.names.append(name if len(phases) == 1 else f"{name}, {phase_name}")
                    self.sizes.append(len(places) * len(cycles))
                    self._places.append(places)
                    self._cycles.append(cycles)

    def partition(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return a label of each place, one of each cycle, and the stratum of (place label, cycle label), −1 for none."""
        population = self.population
        if self.plan.method in ("uniform", "exhaustive"):
            return np.zeros(population.places, np.int64), np.zeros(population.cycles, np.int64), np.zeros((1, 1), np.int64)
        labels, names = population.place_classes()
        times, phases = population.time_classes()
        table = np.full((len(names), len(phases)), -1, np.int64)
        for stratum, (places, cycles) in enumerate(zip(self._places, self._cycles, strict=True)):
            table[labels[places[0]], times[cycles[0]]] = stratum
        return labels, times, table

    def _boost(self, name: str) -> float:
        return next((factor for glob, factor in reversed(self.plan.boosts) if fnmatchcase(name, glob)), 1.0)

    def indices(self, stratum: int, first: int, end: int) -> npt.NDArray[np.uint64]:
        """Return the indices of draws first … end − 1 of a stratum."""
        if end > self.sizes[stratum] and self.plan.method != "importance":
            raise ValueError(f"a draw of stratum {self.names[stratum]!r} must be below {self.sizes[stratum]}, not {end - 1}")
        return np.arange(first, end, dtype=np.uint64) | np.uint64(stratum << _PLACES)

    def stratum_of(self, indices: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the stratum of each fault."""
        if self.plan.method == "importance":
            chosen = np.searchsorted(np.cumsum(self._score), self._numbers(indices)[:, 0].astype(float) / 2**64, side="right")
            return np.minimum(chosen, len(self.sizes) - 1)
        return (indices >> np.uint64(_PLACES)).astype(np.int64)

    def weights(self, strata: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return share over score of the strata of an importance sample; 1 for any other."""
        return self._weight[strata] if self.plan.method == "importance" else np.ones(len(strata))

    def check(self, index: int) -> None:
        """Refuse an index that is no fault of the plan."""
        stratum, place = index >> _PLACES, index & ((1 << _PLACES) - 1)
        if self.plan.method == "importance":
            legal = 0 <= index < 1 << _PLACES
        else:
            legal = 0 <= stratum < len(self.sizes) and place < self.sizes[stratum]
        if not legal:
            ends = f"below {self.sizes[0]}" if len(self.sizes) == 1 else "(stratum << 44) + place within the stratum"
            raise ValueError(f"index must be one of this plan, {ends}, not {index}")

    @staticmethod
    def places(indices: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the order that each fault is in, a stratum's (of an importance sample the only one, 0), and its place there."""
        return (indices >> np.uint64(_PLACES)).astype(np.int64), (indices & np.uint64((1 << _PLACES) - 1)).astype(np.int64)

    def made(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which rows (of fields index, stratum and those of FAULT) are what this plan has at their index."""
        orders, places = self.places(rows["index"])
        sizes = np.asarray(self.sizes if self.plan.method != "importance" else [1 << _PLACES])
        good = orders < len(sizes)
        good[good] = places[good] < sizes[orders[good]]
        mine, indices = rows[good], rows["index"][good]
        faults, same = self.faults(indices), mine["stratum"] == self.stratum_of(indices)
        for name in FAULT.names or ():
            same &= mine[name] == faults[name]
        good[good] = same
        return good

    def faults(self, indices: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """Return the faults (FAULT rows) of `indices`, in any order."""
        population = self.population
        places, cycles = np.zeros(len(indices), np.int64), np.zeros(len(indices), np.int64)
        strata = self.stratum_of(indices)
        order = indices & np.uint64((1 << _PLACES) - 1)
        for stratum in np.unique(strata):
            mine = strata == stratum
            places[mine], cycles[mine] = self._position(int(stratum), order[mine], indices[mine])
        found = np.zeros(len(indices), FAULT)
        found["site"] = population.sites[population.word_of(places)]
        found["cycle"] = cycles
        found["kind"] = self.plan.kind
        found["duration"] = self.plan.duration
        found["mask"] = population.masks(places)
        return found

    def _position(self, stratum: int, numbers: npt.NDArray[np.uint64],
                  indices: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return place and cycle of each number in the order of a stratum."""
        size, method = self.sizes[stratum], self.plan.method
        if method == "importance":
            drawn = self._numbers(indices)
            mine, cycles = self._places[stratum], self._cycles[stratum]
            return mine[_below(drawn[:, 1], len(mine))], cycles[_below(drawn[:, 2], len(cycles))]
        if method == "exhaustive":
            order = numbers.astype(np.int64)
        else:
            if stratum not in self._orders:
                self._orders[stratum] = Permutation(size, self.plan.seed, stratum)
            order = self._orders[stratum](numbers).astype(np.int64)
        if method == "stratified":
            mine, cycles = self._places[stratum], self._cycles[stratum]
            return mine[order % len(mine)], cycles[order // len(mine)]
        return order % self.population.places, order // self.population.places

    def _numbers(self, indices: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return block `index` of Philox(seed) for each index: (n, 4). Runs of consecutive indices are made at once."""
        found = np.empty((len(indices), 4), np.uint64)
        if not len(indices):
            return found
        starts = np.concatenate(([0], np.flatnonzero(np.diff(indices.astype(np.int64)) != 1) + 1, [len(indices)]))
        for first, end in pairwise(starts):
            stream = np.random.Philox(key=[self.plan.seed, 1 << 63], counter=int(indices[first]))
            found[first:end] = stream.random_raw(4 * int(end - first)).reshape(-1, 4)
        return found


def _below(numbers: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.int64]:
    """Return ⌊number · n / 2⁶⁴⌋ for n < 2³², in two halves so that nothing overflows."""
    half, low, times = np.uint64(32), np.uint64((1 << 32) - 1), np.uint64(n)
    return (((numbers >> half) * times + ((numbers & low) * times >> half)) >> half).astype(np.int64)
