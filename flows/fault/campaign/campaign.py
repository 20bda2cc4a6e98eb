"""A campaign: draws faults by plan, has them simulated by one or many processes, keeps every row, stops when it knows enough."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.analysis import Lifetimes
from flows.fault.campaign.results import RESULT, Results
from flows.fault.campaign.sampler import Sampler
from flows.fault.campaign.store import Store, StoreError
from flows.fault.campaign.words import Words
from flows.fault.engines.engine import Engine
from flows.fault.figures.iso26262 import Rates
from flows.fault.figures.statistics import STRATUM_FLOOR, Looks, checked_sample_size, neyman_allocation, stratified_interval
from flows.fault.records import FAULT, OUTCOME, UPSETS, Outcome
from flows.toolchain import ToolError

__all__ = ["Campaign", "Progress"]

_DRAWS = 1 << 16
_FIRST_SHARD, _LEAST_SHARD, _MOST_SHARD = 1 << 12, 1 << 6, 1 << 20
_SHARD_SECONDS = (0.5, 4.0)
_FLUSH_SECONDS = 5.0
_MOST_LOOKS = 40
_ALL = "all"

Progress = Callable[[int, int], None]
"""(faults simulated, faults asked for so far) → nothing."""


@dataclass
class Spent:
    """What the simulation took.

    Attributes
    ----------
    faults : int
        Simulated by this process and its workers; without those of an earlier run.
    seconds, cpu_seconds : float
        On the clock; and of all processors, of simulation alone.
    """

    faults: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


_worker_engine: Engine | None = None


def _open(factory: Callable[[], Engine]) -> None:
    global _worker_engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # the campaign says when to stop
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()
    _worker_engine = factory()


def _leave_after(parent: BaseProcess) -> None:
    parent.join()           # a campaign that was killed cannot say that there is no more work
    os._exit(1)


def _in_worker(faults: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float, float]:
    assert _worker_engine is not None
    return _simulate(_worker_engine, faults)


def _simulate(engine: Engine, faults: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float, float]:
    """Return outcomes, seconds on the clock, seconds of processors (those of finished children too)."""
    wall, cpu = time.perf_counter(), _processor_seconds()
    outcomes = engine.run(faults)
    return outcomes, time.perf_counter() - wall, _processor_seconds() - cpu


def _processor_seconds() -> float:
    return time.process_time() + sum(os.times()[2:4])       # ours, and of the processes that an engine has started


@dataclass(kw_only=True)
class Campaign:
    """Faults of a plan on an engine.

    Attributes
    ----------
    engine : Engine
        Simulates in this process.
    factory : function, or None
        Makes the same engine in another process; needed for more than one worker, and then picklable.
    words : Words
    lifetimes : Lifetimes
        Of upsets; faults of other kinds are all taken to matter.
    sampler : Sampler
    store : Store or None
        Where rows are kept, and those of earlier runs are; None keeps them in memory alone.
    workers : int
    floor : int
        Least faults of a stratum.
    rates : Rates
        How often bits are hit: what a stratum must be known well for.
    confidence : float
        Of the intervals of `results`.
    progress : function
    masked_by_analysis : int
        Faults of the plan, as far as it was gone through, that the access trace proves to be masked.
    effective_sample_size : float or None
        Of an importance sample: how many draws of equal weight it is worth.

    Raises
    ------
    StoreError
        If the rows of an earlier run are not what the plan has at their index.
    """

    engine: Engine
    words: Words
    lifetimes: Lifetimes
    sampler: Sampler
    store: Store | None = None
    factory: Callable[[], Engine] | None = None
    workers: int = 1
    floor: int = STRATUM_FLOOR
    rates: Rates = field(default_factory=Rates)
    confidence: float = 0.95
    progress: Progress = lambda done, asked: None
    spent: Spent = field(default_factory=Spent)
    masked_by_analysis: int = 0
    effective_sample_size: float | None = None
    looks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take up what an earlier run has left."""
        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers!r}")
        earlier = self.store.rows if self.store is not None else np.zeros(0, RESULT)
        wrong = ~self.sampler.made(earlier) | (earlier["outcome"] >= len(Outcome))
        if wrong.any():
            raise StoreError(f"rows that a campaign goes on from must be of its plan, not what {int(wrong.sum()):,} of "
                             f"{len(earlier):,} say: files in the folder have been changed")
        if self.sampler.plan.kind not in UPSETS:        # what stays, or comes again, outlives a write
            self.lifetimes = Lifetimes(self.words, self.sampler.population.cycles, {})
        self._done = np.sort(earlier["index"])
        self._rows = [earlier[self._alive(earlier)]]    # an engine without an access trace may have left more
        strata = len(self.sampler.sizes)
        self._next, self._live = [0] * strata, [0] * strata     # next place of each stratum; faults drawn that may matter
        self._kept = np.zeros(strata, np.int64)     # places of each stratum to go through at least: up to the last earlier row
        orders, places = self.sampler.places(self._done)
        np.maximum.at(self._kept, orders, places + 1)
        self._shard: int = getattr(self.engine, "batch", _FIRST_SHARD)
        self._asked, self._flush_at = 0, 0.0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def results(self) -> Results:
        """What is known by now."""
        rows = np.concatenate(self._rows) if self._rows else np.zeros(0, RESULT)
        return Results(self.words, self.lifetimes, self.sampler, rows, confidence=self.confidence)

    def sample(self, faults: int) -> Results:
        """Simulate `faults` faults that the analysis cannot prove to be masked, or all there are.

        Strata get a quarter of them by size first, then what Neyman's rule says.

        Raises
        ------
        ValueError
            If there is no fault to simulate, fewer than one is asked for, or an importance sample is worth fewer than 100.
        """
        if faults < 1:
            raise ValueError(f"--faults must be at least 1, not {faults!r}")
        with self._running():
            if self.sampler.plan.method != "stratified":
                self._to([faults])
            else:
                sizes = self.sampler.sizes
                self._to(neyman_allocation(faults // 4, sizes, [0.5] * len(sizes), floor=self.floor))
                self._to(self._neyman(faults))
        return self._checked()

    def exhaust(self) -> Results:
        """Simulate every fault of the population."""
        with self._running():
            self._to([size for size in self.sampler.sizes])
        return self._checked()

    def until(self, looks: Looks) -> Results:
        """Simulate until every stratum that matters is known well enough, all at one look, and log every look.

        From look to look strata that are not known well enough get twice as many faults. Intervals are then of the confidence of
        the last look, so that what stopped the campaign holds with that of `looks`.
        """
        whole = sum(self.sampler.sizes)
        single = self.sampler.plan.method == "importance"
        asked = [looks.first] if single else [
            max(min(self.floor, size), round(looks.first * size / whole)) for size in self.sampler.sizes]
        with self._running():
            for look in range(1, _MOST_LOOKS):
                self._to(asked)
                self.confidence = looks.confidence_at(look)
                strata = self.results.strata(self.rates)
                found = {name: [stratified_interval([known], self.confidence) for known in both]
                         for name, share, *both in strata if looks.matters(share)}
                if len(strata) > 1:
                    both_of_all = zip(*(both for _, _, *both in strata), strict=True)
                    found[_ALL] = [stratified_interval(known, self.confidence) for known in both_of_all]
                width, widest = max((interval.half_width, name) for name, both in found.items() for interval in both)
                waiting = {name for name, both in found.items() if not looks.met(both)}
                self.looks.append({"look": look, "faults": sum(self._live), "confidence": self.confidence, "widest": width,
                                   "stratum": widest, "met": not waiting})
                if not waiting or self._exhausted():
                    break
                names = [_ALL] if single else self.sampler.names
                asked = [2 * n if single or name in waiting or waiting == {_ALL} else n
                         for name, n in zip(names, asked, strict=True)]
        return self._checked()

    def _exhausted(self) -> bool:
        return self.sampler.plan.method != "importance" and all(
            place >= size for place, size in zip(self._next, self.sampler.sizes, strict=True))

    def _neyman(self, faults: int) -> list[int]:
        strata = self.results.strata()
        shares = [(dangerous.hits + 0.5) / (dangerous.faults + 1) for *_, dangerous in strata]
        return neyman_allocation(faults, [dangerous.population for *_, dangerous in strata], shares,
                                 floor=[max(self.floor, drawn) for drawn in self._live])

    def _checked(self) -> Results:
        results = self.results
        if not len(results.rows):
            raise ValueError(f"a campaign must have faults that can matter, not {self.masked_by_analysis:,} that the access "
                             "trace proves to be masked")
        if self.sampler.plan.method == "importance":
            self.effective_sample_size = checked_sample_size(self.sampler.weights(results.rows["stratum"].astype(np.int64)))
        return results

    def _running(self) -> "_Running":
        return _Running(self)

    def _to(self, asked: list[int]) -> None:
        """Simulate until each stratum has as many faults as asked for, if it has them."""
        started = time.perf_counter()
        self._asked = max(self._asked, sum(asked))
        waiting: deque[tuple[npt.NDArray[Any], Future[Any] | None]] = deque()
        for rows in self._shards(asked):
            faults = rows[list(FAULT.names or ())].astype(FAULT)
            if self._pool is None:
                self._take(rows, *_simulate(self.engine, faults))
                continue
            waiting.append((rows, self._pool.submit(_in_worker, faults)))
            if len(waiting) > 2 * self.workers:
                self._collect(waiting)
        while waiting:
            self._collect(waiting)
        self.spent.seconds += time.perf_counter() - started

    def _collect(self, waiting: deque[tuple[npt.NDArray[Any], Any]]) -> None:
        rows, future = waiting.popleft()
        try:
            self._take(rows, *future.result())
        except BrokenProcessPool:
            raise ToolError("a worker of the campaign died (of memory, perhaps): rows so far are kept; go on with --resume and "
                            "fewer --workers") from None

    def _shards(self, asked: list[int]) -> Iterator[npt.NDArray[Any]]:
        """Yield rows to simulate, in order of stratum and place."""
        for stratum, target in enumerate(asked):
            limit = self.sampler.sizes[stratum] if self.sampler.plan.method != "importance" else math.inf
            held: list[npt.NDArray[Any]] = []
            while (self._live[stratum] < target or self._next[stratum] < self._kept[stratum]) and self._next[stratum] < limit:
                rows = self._draw(stratum, target, limit)
                rows = rows[~_among(rows["index"], self._done)]
                held.append(rows)
                while sum(map(len, held)) >= self._shard:
                    whole = np.concatenate(held)
                    size = self._shard
                    yield whole[:size]
                    held = [whole[size:]]
            whole = np.concatenate(held) if held else np.zeros(0, RESULT)
            if len(whole):
                yield whole

    def _draw(self, stratum: int, target: int, limit: float) -> npt.NDArray[Any]:
        """Return the next faults of a stratum that may matter, at most as many as it lacks: of the target, or of earlier rows."""
        first = self._next[stratum]
        end = int(min(limit, first + _DRAWS))
        indices = self.sampler.indices(stratum, first, end)
        faults = self.sampler.faults(indices)
        alive = self._alive(faults)
        earlier = int(alive[:max(0, int(self._kept[stratum]) - first)].sum())
        lacking = max(target - self._live[stratum], earlier)
        chosen = np.flatnonzero(alive)[:lacking]
        drawn = int(chosen[-1]) + 1 if lacking and len(chosen) == lacking else len(indices)
        self._next[stratum] += drawn
        self._live[stratum] += len(chosen)
        self.masked_by_analysis += drawn - len(chosen)
        rows = np.zeros(len(chosen), RESULT)
        rows["index"] = indices[chosen]
        rows["stratum"] = self.sampler.stratum_of(indices[chosen])
        for name in FAULT.names or ():
            rows[name] = faults[name][chosen]
        return rows

    def _alive(self, faults: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which faults the analysis cannot prove to be masked."""
        if not self.lifetimes.known or not len(faults):
            return np.ones(len(faults), bool)
        return self.lifetimes.alive(self.words.rows_of(faults["site"]), faults["cycle"].astype(np.int64))

    def _take(self, rows: npt.NDArray[Any], outcomes: npt.NDArray[Any], seconds: float, cpu_seconds: float) -> None:
        for name in OUTCOME.names or ():
            rows[name] = outcomes[name]
        self._rows.append(rows)
        if self.store is not None:
            self.store.add(rows)
            if time.monotonic() > self._flush_at:
                self.store.flush()
                self._flush_at = time.monotonic() + _FLUSH_SECONDS
        self.spent.faults += len(rows)
        self.spent.cpu_seconds += cpu_seconds
        self.progress(self.spent.faults, max(self._asked - len(self._done), self.spent.faults))
        if len(rows) >= self._shard and seconds < _SHARD_SECONDS[0]:
            self._shard = min(_MOST_SHARD, 2 * self._shard)
        elif seconds > _SHARD_SECONDS[1]:
            self._shard = max(_LEAST_SHARD, self._shard // 2)


class _Running:
    """While a campaign runs: its workers; and when it ends, however it ends, every row is written."""

    def __init__(self, campaign: Campaign):
        self._campaign = campaign

    def __enter__(self) -> None:
        campaign = self._campaign
        campaign._flush_at = time.monotonic() + _FLUSH_SECONDS
        if campaign.workers > 1:
            if campaign.factory is None:
                raise ValueError(f"--workers must be 1 where there is no way to make another engine, not {campaign.workers}")
            campaign._pool = ProcessPoolExecutor(campaign.workers, multiprocessing.get_context("spawn"), _open,
                                                 (campaign.factory,))

    def __exit__(self, *_: object) -> None:
        campaign = self._campaign
        try:
            if campaign.store is not None:
                campaign.store.flush()
        finally:
            if campaign._pool is not None:
                campaign._pool.shutdown(wait=True, cancel_futures=True)
                campaign._pool = None


def _among(indices: npt.NDArray[np.uint64], done: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return whether each index is among the sorted `done`."""
    if not len(done):
        return np.zeros(len(indices), bool)
    where = np.minimum(np.searchsorted(done, indices), len(done) - 1)
    return done[where] == indices
