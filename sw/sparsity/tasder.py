"""TASDER: for each matrix the cheapest series of structured terms with which the model stays good enough."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.engines.hss import hss_mode
from hw.errors import ConfigError
from hw.families import Format, SeriesFormat, SparseFormat
from hw.formats import format_named
from sw.formats import dequantize, quantize
from sw.golden.llama import LlamaLayer
from sw.models.llama_weights import LAYER_TENSORS, LlamaCheckpoint
from sw.models.sensitivity import linear_matrices
from sw.sparsity.patterns import density

__all__ = ["MATRICES", "SERIES", "Choice", "Matrix", "Scored", "choose", "cost_of", "engine_series",
           "linear_scores", "scores_of"]

SERIES: tuple[Format, ...] = tuple(format_named(name) for name in (
    "tasd-1:8", "tasd-2:8", "tasd-2:8+1:8", "tasd-4:8", "tasd-4:8+1:8", "tasd-4:8+2:8", "int8"))
"""What a core with blocks of 8 runs, the cheapest first; int8 is 8:8. At most two terms."""

MATRICES = tuple(part for part in LAYER_TENSORS if not part.endswith("norm"))
"""Parts of a layer that are matrices."""

Matrix = tuple[int, str]
"""Layer and part, or layer and linear."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A matrix with what each series costs it.

    Attributes
    ----------
    weights : int
    errors : tuple of float
        For each of the series, ‖W − Ŵ‖ / ‖W‖ in the Frobenius norm.
    """

    weights: int
    errors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What `choose` found.

    Attributes
    ----------
    series : mapping of (layer, part) to Format
    cost : float
        Multiplications over those of dense matrices.
    quality : float
        Of the last model that was good enough: this one.
    evaluations : int
        How often a quality was asked for.
    """

    series: Mapping[Matrix, Format]
    cost: float
    quality: float
    evaluations: int


def scores_of(checkpoint: LlamaCheckpoint, series: Sequence[Format] = SERIES) -> dict[Matrix, Scored]:
    """Return the errors of every matrix of a checkpoint; reads one layer at a time."""
    return _scores(checkpoint, series, lambda layer: {part: getattr(layer, part) for part in MATRICES})


def linear_scores(checkpoint: LlamaCheckpoint, series: Sequence[Format]) -> dict[Matrix, Scored]:
    """Return the errors of every linear of a checkpoint, whose matrices have one format; reads one layer at a time."""
    return _scores(checkpoint, series, linear_matrices)


def _scores(checkpoint: LlamaCheckpoint, series: Sequence[Format],
            matrices_of: Callable[[LlamaLayer], Mapping[str, npt.NDArray[np.float32]]]) -> dict[Matrix, Scored]:
    found = {}
    for layer in range(checkpoint.config.layers):
        for name, matrix in matrices_of(checkpoint.layer(layer)).items():
            norm = float(np.linalg.norm(matrix)) or 1.0
            errors = [float(np.linalg.norm(dequantize(quantize(matrix, fmt)) - matrix)) / norm for fmt in series]
            found[layer, name] = Scored(weights=matrix.size, errors=tuple(errors))
    return found


def engine_series(config: AcceleratorConfig) -> dict[Format, float]:
    """Return what the structured-sparsity engine of a config runs, cheapest first: format → time over that of dense weights.

    Patterns and series of its weight formats, and plain int8; of several that take the same time the densest.

    Raises
    ------
    ConfigError
        If it is another engine, or has no such formats.
    """
    if config.engine not in ("hss", "stc"):
        raise ConfigError(f"AcceleratorConfig.engine must be 'hss' or 'stc' for a choice of series, not {config.engine!r}")
    costs: dict[float, Format] = {1.0: format_named("int8")}
    for fmt in map(format_named, config.weight_formats):
        cost = 1 / hss_mode(fmt).speedup
        if isinstance(fmt, SparseFormat | SeriesFormat) and cost < 1 and (
                cost not in costs or density(fmt) > density(costs[cost])):
            costs[cost] = fmt
    if len(costs) == 1:
        raise ConfigError("AcceleratorConfig.weight_formats must have patterns or series for a choice of series, not "
                          f"{config.weight_formats!r}")
    return {costs[cost]: cost for cost in sorted(costs)}


def cost_of(choice: Mapping[Matrix, Format], scores: Mapping[Matrix, Scored],
            cost: Callable[[Format], float] = density) -> float:
    """Return the multiplications over those of dense matrices: ΣN/M of each, or another cost, weighed by its size."""
    return sum(cost(choice[name]) * scored.weights for name, scored in scores.items()) / sum(
        scored.weights for scored in scores.values())


def choose(scores: Mapping[Matrix, Scored], quality: Callable[[Mapping[Matrix, Format]], float], bar: float,
           series: Sequence[Format] = SERIES, cost: Callable[[Format], float] = density) -> Choice:
    """Return for each matrix a series, such that the quality is at least `bar`.

    First one threshold for all: each matrix takes its cheapest series with an error of at most α, and α is bisected over the
    errors that there are. From there each matrix by itself: the step to the next cheaper series that saves the most
    multiplications for the error it adds is tried, and stays if the model stays good enough; else this matrix is done.

    Parameters
    ----------
    scores : mapping
        As `scores_of` returns it.
    quality : function
        Series of each matrix → quality of the model; more is better.
    bar : float
        The least quality.
    series : sequence of Format
        The cheapest first; the last one must be good enough.
    cost : function
        Format → what it costs.

    Raises
    ------
    ValueError
        If even the last of the series does not reach the bar, or they do not go from cheap to dear.

    Notes
    -----
    Source: Jeong et al., TASD, MLSys 2025. That a layer takes the cheapest series at 99 % of the quality was read of it; the
    threshold, its bisection and the order of the walk are ours (grade: inferred).
    """
    costs = [cost(fmt) for fmt in series]
    if not costs or sorted(set(costs)) != costs:
        raise ValueError(f"series must go from cheap to dear, each once, not at {', '.join(f'{each:g}' for each in costs)}")
    evaluations = 0

    def tried(places: Mapping[Matrix, int]) -> float:
        nonlocal evaluations
        evaluations += 1
        return quality({name: series[place] for name, place in places.items()})

    places = dict.fromkeys(scores, len(series) - 1)
    best = tried(places)
    if best < bar:
        raise ValueError(f"the quality must be at least {bar:g} with {series[-1].name} everywhere, not {best:g}")
    thresholds = sorted({error for scored in scores.values() for error in scored.errors})
    low, high = 0, len(thresholds)              # thresholds[:low] are good enough, those from `high` on are not or unknown
    while low < high:
        middle = (low + high) // 2
        wanted = {name: _cheapest(scored, thresholds[middle]) for name, scored in scores.items()}
        found = tried(wanted)
        if found >= bar:
            places, best, low = wanted, found, middle + 1
        else:
            high = middle
    open_ = {name for name in scores if places[name]}
    while open_:
        name = max(sorted(open_), key=lambda name: _gain(scores[name], places[name], costs))
        wanted = {**places, name: places[name] - 1}
        found = tried(wanted)
        if found >= bar:
            places, best = wanted, found
        if found < bar or not places[name]:
            open_.discard(name)
    chosen = {name: series[place] for name, place in places.items()}
    return Choice(series=chosen, cost=cost_of(chosen, scores, cost), quality=best, evaluations=evaluations)


def _cheapest(scored: Scored, threshold: float) -> int:
    """Return the first of the series whose error is at most the threshold; the last if none is."""
    return next((place for place, error in enumerate(scored.errors) if error <= threshold), len(scored.errors) - 1)


def _gain(scored: Scored, place: int, costs: Sequence[float]) -> float:
    """Return the multiplications that one step down saves, for the error that it adds."""
    added = scored.errors[place - 1] - scored.errors[place]
    saved = scored.weights * (costs[place] - costs[place - 1])
    return saved / added if added > 0 else float("inf")
