"""Cross-layer campaigns: a fault in RTL while the array works on one tile of a language model, and what the model then writes.

The tiles' operands are those that the array has in a run of the model on the golden device. The mesh is simulated on them in RTL,
a fault at a time; psums that come out wrong are put into that layer's sums, once for all faults that corrupt them alike, and the
rest of the model goes on from there in the golden device's own arithmetic: commands before the tile are not repeated.

An SDC is critical if other tokens follow on the prompt, tolerable if they are the same; the run without faults is what is
compared with, not a text.

Reference: ENFOR-SA (VTS 2026) and HDFIT (TPDS 2023) also simulate one tile in RTL and the rest of a network in software. We
differ in the network, in that its software is bit-exact with the rest of the hardware, and in the intervals.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.emit import to_rtlil
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.figures.statistics import Interval, wilson
from flows.fault.model.model_run import Corruption, ModelRun, Outcomes, Tile
from flows.fault.records import FAULT, Kind
from flows.fault.targets.target import Target, TargetError
from flows.fault.targets.tile_bench import TileBench
from flows.fault.targets.workloads import mesh_stimuli
from hw.config import AcceleratorConfig
from hw.pe import PESpec

__all__ = ["LARGEST_SAMPLE", "CrossLayerResult", "TileResult", "cross_layer", "tiles_target"]

LARGEST_SAMPLE = 1 << 14
"""Rows of psums of all tiles together; the bench has as many, so that it is built once for a config."""
_RESULTS = "results.rows"


def tiles_target(config: AcceleratorConfig, activations: npt.NDArray[np.integer], weights: npt.NDArray[np.integer]) -> Target:
    """Return a config's mesh on tiles, one after the other, whose psums are kept in a memory and compared at the end.

    activations, weights: (tiles, m, R) and (tiles, R, C). A row of the memory is a row of psums, a 32-bit word each.
    """
    if "ws" not in config.dataflows:
        raise TargetError(f"AcceleratorConfig.dataflows must have 'ws' to inject into tiles, not {config.dataflows!r}")
    spec = PESpec.of(config)
    stimuli, cycles = mesh_stimuli(spec, activations, weights)
    rows = activations.shape[0] * activations.shape[1]
    if rows > LARGEST_SAMPLE:
        raise TargetError(f"tiles must have at most {LARGEST_SAMPLE} rows of psums together, not {activations.shape[0]} tiles of "
                          f"{activations.shape[1]}")
    return Target(name=f"{activations.shape[0]} tiles of {config.rows}x{config.columns}", top="tile_bench",
                  rtlil=_bench(spec, config.rows, config.columns), stimuli=stimuli, cycles=cycles,
                  observed_memory={_RESULTS: [(0, rows)]}, environment=("results",))


@functools.cache
def _bench(spec: PESpec, rows: int, columns: int) -> str:
    return to_rtlil(TileBench(spec=spec, rows=rows, columns=columns, depth=LARGEST_SAMPLE), "tile_bench")


@dataclass(frozen=True, kw_only=True, slots=True)
class TileResult:
    """What the faults of one tile did.

    Attributes
    ----------
    tile : Tile
    faults, sdc : int
        Simulated in RTL in its slots; those of all tiles that corrupt its psums.
    evaluated, corruptions : int
        Of the latter, those whose effect on the model was found out; how many different corruptions they were.
    critical : int
        Those that change tokens.
    predictions : int
        Those that change what the model would say behind some token of the prompt.
    bits : float
        Mean change of the bits per token of the prompt, over those evaluated; infinite where logits became NaN.
    largest : float
        Largest magnitude of that.
    """

    tile: Tile
    faults: int
    sdc: int
    evaluated: int
    corruptions: int
    critical: int
    predictions: int
    bits: float
    largest: float

    @property
    def rates(self) -> tuple[float, float]:
        """Share of faults that corrupt psums, and that change tokens."""
        sdc = self.sdc / self.faults
        return sdc, sdc * self.critical / self.evaluated if self.evaluated else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossLayerResult:
    """What a campaign found.

    Attributes
    ----------
    tiles : tuple of TileResult
        Drawn at random among all of the model's, all alike.
    population : int
        Tiles of the model.
    rtl_seconds, model_seconds : float
        Of this process's time.
    """

    tiles: tuple[TileResult, ...]
    population: int
    rtl_seconds: float
    model_seconds: float

    def total(self, name: str) -> int:
        """Return a count's sum over the tiles."""
        return sum(getattr(tile, name) for tile in self.tiles)

    @property
    def rates(self) -> tuple[float, float, float]:
        """p_SDC, p_critical|SDC, and their product p_critical; means over the tiles."""
        sdc, critical = (float(np.mean(column)) for column in zip(*(tile.rates for tile in self.tiles), strict=True))
        return sdc, critical / sdc if sdc else 0.0, critical

    def variances(self) -> tuple[float, float]:
        """Return the variance of p_critical = p_SDC · p_critical|SDC, as if all faults had been drawn on their own, and by tiles.

        The first: p₂²·V₁ + p₁²·V₂ + V₁·V₂ of the two stages. The second is that of the tiles' means, which holds all there is:
        tiles differ, and faults share theirs.
        """
        sdc, given, _ = self.rates
        faults, evaluated = self.total("faults"), self.total("evaluated")
        first = sdc * (1 - sdc) / faults
        second = given * (1 - given) / evaluated if evaluated else 0.25
        return given**2 * first + sdc**2 * second + first * second, self._between(1)

    def _between(self, which: int) -> float:
        """Return the variance of a mean over the tiles, of p_SDC or p_critical; infinite where there is one tile."""
        means = [tile.rates[which] for tile in self.tiles]
        return float(np.var(means, ddof=1)) / len(means) * (1 - len(means) / self.population) if len(means) > 1 else math.inf

    def intervals(self, confidence: float = 0.95) -> tuple[Interval, Interval]:
        """Return Wilson's intervals of p_SDC and p_critical, for as many faults as the larger of their variances is worth."""
        sdc, _, critical = self.rates
        found = []
        for rate, variance in ((sdc, max(sdc * (1 - sdc) / self.total("faults"), self._between(0))),
                               (critical, max(self.variances()))):
            worth = rate * (1 - rate) / variance if 0 < rate < 1 and math.isfinite(variance) else float(len(self.tiles))
            found.append(wilson(rate * worth, worth, confidence))
        return found[0], found[1]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        sdc, given, critical = self.rates
        faults, evaluated = self.total("faults"), self.total("evaluated")
        stages, between = self.variances()
        intervals = self.intervals()
        groups: dict[str, list[TileResult]] = {}
        for tile in self.tiles:
            groups.setdefault(tile.tile.kernel, []).append(tile)
        return {
            "faults": faults, "tiles": len(self.tiles), "tile_population": self.population, "masked_by_analysis": 0,
            "outcomes": {"masked": faults - self.total("sdc"), "corrected": 0, "detected": 0, "sdc": self.total("sdc"),
                         "hang": 0},
            "evaluated": evaluated, "different_corruptions": self.total("corruptions"),
            "subclasses": {"sdc": {"sdc_critical": self.total("critical"), "sdc_tolerable": evaluated - self.total("critical")}},
            "sdc_rate": sdc, "critical_given_sdc": given, "critical_rate": critical,
            "ci95": list(intervals[0]), "critical_ci95": list(intervals[1]),
            "critical_given_sdc_ci95": list(wilson(self.total("critical"), evaluated)),
            "variance": {"two_stage": stages, "between_tiles": between if math.isfinite(between) else None},
            "prediction_changes": self.total("predictions"),
            "bits_per_token_change": _finite(_mean([tile.bits for tile in self.tiles if tile.evaluated])),
            "largest_change": _finite(max((tile.largest for tile in self.tiles), default=0.0)),
            "by_kernel": {name: {"tiles": len(part), "faults": sum(t.faults for t in part), "sdc": sum(t.sdc for t in part),
                                 "evaluated": sum(t.evaluated for t in part), "critical": sum(t.critical for t in part)}
                          for name, part in groups.items()},
            "rtl_seconds": self.rtl_seconds, "model_seconds": self.model_seconds,
            "faults_per_second": faults / self.rtl_seconds if self.rtl_seconds else None,
            "model_runs_per_second": self.total("corruptions") / self.model_seconds if self.model_seconds else None,
        }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def cross_layer(run: ModelRun, *, tiles: int, faults: int, effects: int = 32, seed: int = 0, glob: str = "mesh.*",
                progress: Callable[[int], None] = lambda done: None) -> CrossLayerResult:
    """Return what single upsets of the array's flip-flops do to a model.

    Parameters
    ----------
    run : ModelRun
    tiles, faults : int
        Tiles, drawn at random; faults in each, every bit in every cycle of its weights' and its activations' slots alike.
        One that hits what is still left of the tile before counts for that one.
    effects : int
        Of a tile's SDCs, the most whose effect on the model is found out; drawn at random where there are more.
    seed : int
        Tile number i and its faults follow from it and i alone.
    glob : str
        Paths in the bench: `mesh.row_3.pe_5.*`.
    progress : function of int
        Called with the tiles done so far.

    Raises
    ------
    ValueError
        If a number cannot be.
    SiteError
        If no site matches.
    """
    for name, value, least in (("tiles", tiles, 1), ("faults", faults, 1), ("effects", effects, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value!r}")
    drawn = [run.tiles[i] for i in sorted(_random(seed, 0).choice(len(run.tiles), min(tiles, len(run.tiles)), replace=False))]
    started = time.process_time()
    activations, weights = (np.stack(parts) for parts in zip(
        *((point.activations, point.weights) for point in run.points(drawn)), strict=True))
    model_seconds = time.process_time() - started

    started = time.process_time()
    # The last tile goes before the first as well: while a tile's weights and first rows come, the one before still leaves.
    engine = LanesEngine(tiles_target(run.config, *(np.concatenate([part[-1:], part]) for part in (activations, weights))))
    struck = _faults(engine, len(drawn), faults, seed, glob)
    corruptions = _corruptions(engine.corruptions(struck), len(drawn), activations.shape[1], run.config.columns)
    rtl_seconds = time.process_time() - started

    started = time.process_time()
    results = []
    for number, point in enumerate(run.points(drawn)):
        found = corruptions[number]
        rng = _random(seed, number + 1, 1)
        chosen = found if len(found) <= effects else [found[i] for i in rng.choice(len(found), effects, replace=False)]
        different = {corruption.key(): corruption for corruption in chosen}
        outcomes = point.outcomes(list(different.values())) if different else None
        places = {key: place for place, key in enumerate(different)}
        picks = [places[corruption.key()] for corruption in chosen]
        results.append(_result(run, point.tile, faults, len(found), outcomes, picks, len(different)))
        progress(number + 1)
    return CrossLayerResult(tiles=tuple(results), population=len(run.tiles), rtl_seconds=rtl_seconds,
                            model_seconds=model_seconds + time.process_time() - started)


def _random(seed: int, *place: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *place])))


def _faults(engine: LanesEngine, tiles: int, count: int, seed: int, glob: str) -> npt.NDArray[np.void]:
    """Return `count` faults in the slots of each tile but the first, which is there to leave when they come."""
    sites = engine.sites.select(glob)
    bits = engine.sites.bits[sites]
    ends = np.cumsum(bits)
    slots = (engine.golden_cycles - _drain(engine)) // (tiles + 1)
    faults = np.zeros(tiles * count, FAULT)
    for number in range(tiles):
        rng, mine = _random(seed, number + 1), faults[number * count:(number + 1) * count]
        picked = rng.integers(0, ends[-1], count)
        place = np.searchsorted(ends, picked, side="right")
        mine["site"], mine["mask"] = sites[place], np.uint32(1) << (picked - ends[place] + bits[place]).astype(np.uint32)
        mine["cycle"] = (number + 1) * slots + rng.integers(0, slots, count)
    faults["kind"] = Kind.SEU
    return faults


def _drain(engine: LanesEngine) -> int:
    """Return the cycles behind the last tile's slots."""
    streams = engine.target.stimuli["streams"]
    return len(streams) - 1 - int(np.flatnonzero(streams)[-1])


def _corruptions(words: Sequence[Mapping[str, npt.NDArray[np.void]]], tiles: int, steps: int,
                 columns: int) -> list[list[Corruption]]:
    """Return what faults do to the psums of each tile, wherever they struck: in its own slots or, as it left, in the next one's.

    The last tile is also the one before the first. A fault counts for one tile, its own if that is among them.
    """
    found: list[list[Corruption]] = [[] for _ in range(tiles)]
    each = len(words) // tiles
    for number, by_memory in enumerate(words):
        wrong = by_memory.get(_RESULTS)
        if wrong is None:
            continue
        row, column = np.divmod(wrong["word"].astype(np.int64), columns)
        own, slots = 1 + number // each, row // steps
        mine = slots == (own if own in slots else slots[0])
        differences = wrong["got"].astype(np.int32).astype(np.int64) - wrong["golden"].astype(np.int32)
        found[(int(slots[mine][0]) - 1) % tiles].append(
            Corruption(rows=row[mine] % steps, columns=column[mine], differences=differences[mine]))
    return found


def _result(run: ModelRun, tile: Tile, faults: int, sdc: int, outcomes: Outcomes | None, picks: Sequence[int],
            different: int) -> TileResult:
    if outcomes is None:
        return TileResult(tile=tile, faults=faults, sdc=sdc, evaluated=0, corruptions=0, critical=0, predictions=0, bits=0.0,
                          largest=0.0)
    critical = (outcomes.tokens != run.golden.tokens).any(axis=1)[picks]
    predictions = (outcomes.predictions != run.golden.predictions).any(axis=1)[picks]
    change = np.nan_to_num((outcomes.bits - run.golden.bits)[picks], nan=np.inf)
    return TileResult(tile=tile, faults=faults, sdc=sdc, evaluated=len(picks), corruptions=different,
                      critical=int(critical.sum()), predictions=int(predictions.sum()), bits=float(change.mean()),
                      largest=float(np.abs(change).max()))
