"""Which upsets of memory words cannot matter, by who reads and writes the words in the run without faults."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.words import Words

__all__ = ["Accesses", "Lifetimes"]


@dataclass(frozen=True, kw_only=True)
class Accesses:
    """Who touches the words of a memory, in any order.

    Attributes
    ----------
    cycles, addresses : (n,) int
        An access in cycle t sees what stood there in cycle t, and a write shows from cycle t + 1 on.
    reads : (n,) bool
        Whether it is a read; else a write of the whole word. Writes of parts of words are left out: they may leave a flip alive.
    kept : (k,) int
        Addresses whose contents are compared when the run ends.
    """

    cycles: npt.NDArray[np.int64]
    addresses: npt.NDArray[np.int64]
    reads: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.int64]


class Lifetimes:
    """In which cycles a flip of a word can be seen by anyone: until the last read before the next write, as of ACE analysis.

    A flip at the beginning of cycle t matters only if the first access in t or later is a read, or if there is none and the word
    is compared at the end. (Mukherjee et al., A systematic methodology to compute the architectural vulnerability factors for a
    high-performance microprocessor, MICRO 2003.) Flip-flops, and memories of which nothing is known, count as alive always.

    Parameters
    ----------
    words : Words
    cycles : int
        Of the run without faults.
    accesses : mapping of memory path to Accesses

    Raises
    ------
    ValueError
        If an access comes after the run.
    """

    def __init__(self, words: Words, cycles: int, accesses: Mapping[str, Accesses]):
        self._cycles = cycles
        self._key = np.full(len(words.sites), -1, np.int64)      # row of (memory, address) pairs; -1: always alive
        self._events: list[npt.NDArray[np.int64]] = []
        self._reads: list[npt.NDArray[np.bool_]] = []
        self._kept: list[npt.NDArray[np.bool_]] = []
        paths, base = np.asarray(words.paths, dtype=str), 0
        for path, found in accesses.items():
            mine = np.flatnonzero(words.memory & (paths == path))
            if not len(mine):
                continue
            if len(found.cycles) and found.cycles.max() >= cycles:
                raise ValueError(f"accesses to {path} must be in the run's {cycles} cycles, not in cycle "
                                 f"{int(found.cycles.max())}")
            depth = int(max([words.addresses[mine].max(), *found.addresses, *found.kept])) + 1
            self._key[mine] = base + words.addresses[mine]
            # Of several accesses in one cycle a read comes first: it still sees the flip.
            order = np.lexsort((~found.reads, found.cycles, found.addresses))
            self._events.append((base + found.addresses[order]) * cycles + found.cycles[order])
            self._reads.append(found.reads[order])
            kept = np.zeros(depth, bool)
            kept[found.kept] = True
            self._kept.append(kept)
            base += depth
        self._at = np.concatenate(self._events) if self._events else np.zeros(0, np.int64)
        self._read = np.concatenate(self._reads) if self._reads else np.zeros(0, bool)
        self._observed = np.concatenate(self._kept) if self._kept else np.zeros(0, bool)

    @property
    def known(self) -> bool:
        """Whether anything can be left out at all."""
        return bool((self._key >= 0).any())

    def alive(self, rows: npt.NDArray[np.int64], cycles: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return whether a flip of each word (row of `words`) in each cycle can matter."""
        found = np.ones(len(rows), bool)
        mine = np.flatnonzero(self._key[rows] >= 0)
        keys = self._key[rows[mine]]
        where = np.searchsorted(self._at, keys * self._cycles + cycles[mine])
        inside = where < len(self._at)
        following = np.where(inside, where, 0)
        same = inside & (self._at[following] // self._cycles == keys) if len(self._at) else np.zeros(len(mine), bool)
        found[mine] = np.where(same, self._read[following] if len(self._read) else False, self._observed[keys])
        return found

    def live_cycles(self, labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Return how many cycles of each label (one a cycle, below `count`) each word is alive: (W, count)."""
        whole = np.bincount(labels, minlength=count)
        found = np.tile(whole, (len(self._key), 1))
        if not self.known:
            return found
        before = np.zeros((self._cycles + 1, count), np.int64)     # cycles of each label below t
        before[np.arange(1, self._cycles + 1), labels] = 1
        before = before.cumsum(0)
        live = np.zeros((len(self._observed), count), np.int64)
        keys, times = self._at // self._cycles, self._at % self._cycles
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        previous = np.where(first, 0, np.concatenate(([0], times[:-1] + 1)))     # first cycle since the access before
        spans = before[times + 1] - before[np.minimum(previous, times + 1)]
        np.add.at(live, keys[self._read], spans[self._read])
        last = np.zeros(len(self._observed), np.int64)
        np.maximum.at(last, keys, times + 1)
        live[self._observed] += (before[self._cycles] - before[last])[self._observed]
        mine = self._key >= 0
        found[mine] = live[self._key[mine]]
        return found
