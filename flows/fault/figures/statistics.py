"""Statistics of fault campaigns: sample sizes, intervals of proportions, stratified and importance sampling, adaptive stops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flows.toolchain import missing_tool

__all__ = [
    "Interval", "Looks", "Stratum", "beta_quantile", "checked_sample_size", "clopper_pearson", "effective_sample_size",
    "neyman_allocation", "sample_size", "stratified_estimate", "stratified_interval", "wilson", "zero_escape_sample",
]

STRATUM_FLOOR = 30
"""Least faults of a stratum, however small or quiet it is."""
LEAST_EFFECTIVE_SAMPLE = 100
"""An importance sample that is worth fewer draws says nothing."""
LEAST_SHARE = 0.01
"""Of the failure rate: a part with less need not be known as well as asked for."""
_LEVEUGLE_T = {0.95: 1.96, 0.99: 2.576, 0.998: 3.09}
"""Cut-off points as the paper rounds them."""


class Interval(NamedTuple):
    """A confidence interval of a proportion."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its length."""
        return (self.high - self.low) / 2


IntervalOf = Callable[[float, float, float], Interval]
"""(hits, faults, confidence) → interval: `wilson` or `clopper_pearson`."""


def _check(hits: float, faults: float, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence!r}")
    if not 0 <= hits <= faults:
        raise ValueError(f"hits must be between 0 and the faults ({faults:g}), not {hits:g}")


def sample_size(population: int | None, *, margin: float, confidence: float = 0.95, p: float = 0.5) -> int:
    """Return how many faults of a population give a proportion within ± `margin`.

    Parameters
    ----------
    population : int or None
        Faults that there are, None for no end of them.
    margin : float
        Half-width, 0 < margin < 1.
    confidence : float
    p : float
        Expected proportion; 0.5 is the worst case.

    Reference: Leveugle et al., Statistical fault injection: quantified error and confidence, DATE 2009, equation 4. Its cut-off
    points are rounded (1.96, 2.576, 3.09); other confidences get the exact ones.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, not {margin!r}")
    if not 0 < p < 1:
        raise ValueError(f"p must be between 0 and 1, not {p!r}")
    _check(0, 1, confidence)
    t = _LEVEUGLE_T.get(confidence) or _z(confidence)
    endless = t * t * p * (1 - p) / margin**2
    size = endless if population is None else population / (1 + (population - 1) / endless)
    return math.ceil(size - 1e-9 * size)        # 9604.000000000001 is 9604


def zero_escape_sample(coverage: float, confidence: float = 0.95) -> int:
    """Return how many faults must all be detected before one may claim a diagnostic coverage of at least `coverage`."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage!r}")
    _check(0, 1, confidence)
    return math.ceil(math.log1p(-confidence) / math.log(coverage))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(hits: float, faults: float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval, for display: it stays inside 0 and 1, and has a width where nothing was hit.

    `hits` and `faults` need not be whole: an estimate from a weighted sample comes with an effective number of faults. Without
    faults nothing is known: 0 to 1.
    """
    _check(hits, faults, confidence)
    if faults == 0:
        return Interval(0.0, 1.0)
    z2 = _z(confidence) ** 2
    p = hits / faults
    centre = (p + z2 / (2 * faults)) / (1 + z2 / faults)
    half = math.sqrt(z2 * (p * (1 - p) / faults + z2 / (4 * faults * faults))) / (1 + z2 / faults)
    return Interval(0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == faults else min(1.0, centre + half))


def beta_quantile() -> Callable[[float, float, float], float]:
    """Return the quantile function of the beta distribution, (a, b, probability) → value.

    Raises
    ------
    ToolError
        If scipy is missing.
    """
    try:
        from scipy.special import betaincinv
    except ImportError:
        raise missing_tool("scipy", "it has the quantiles of the beta distribution", "pip install 'heddle[fault]'") from None
    quantile: Callable[[float, float, float], float] = betaincinv
    return quantile


def clopper_pearson(hits: float, faults: float, confidence: float = 0.95) -> Interval:
    """Return Clopper and Pearson's exact interval, for claims: never narrower than it says, right where nothing was hit."""
    _check(hits, faults, confidence)
    if faults == 0:
        return Interval(0.0, 1.0)
    betaincinv = beta_quantile()
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, faults - hits + 1, tail))
    high = 1.0 if hits == faults else float(betaincinv(hits + 1, faults - hits, 1 - tail))
    return Interval(low, high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """What is known of one part of a population.

    Attributes
    ----------
    population : float
        Faults that there are in it.
    faults : int
        Those simulated, drawn at random; without replacement, all of them if it is exhausted.
    hits : int
        Those of the simulated ones that had the outcome in question.
    known : float
        Further faults that belong to this part of the population and are known to have another outcome; no draw fell on them.
    replaced : bool
        Whether a fault can have been drawn more than once.
    """

    population: float
    faults: int
    hits: int
    known: float = 0
    replaced: bool = False

    def __post_init__(self) -> None:
        """Check that there can be such a sample."""
        if not 0 <= self.hits <= self.faults or self.population < 0:
            raise ValueError(f"a stratum must have 0 ≤ hits ≤ faults and a population, not {self.hits}, {self.faults}, "
                             f"{self.population:g}")

    def correction(self) -> float:
        """Return the finite population correction, 0 where everything has been simulated."""
        if self.replaced:
            return 1.0
        return max(0.0, 1 - self.faults / self.population) if self.population else 0.0


def stratified_estimate(strata: Sequence[Stratum]) -> tuple[float, float]:
    """Return p = Σ W_h p_h and its variance Σ W_h² p_h q_h / n_h · (1 − n_h / N_h).

    A stratum that was not drawn from counts with p_h = ½ and the variance of not knowing, ¼.
    """
    total = _total(strata)
    p = variance = 0.0
    for stratum in strata:
        weight = stratum.population / total
        share = stratum.hits / stratum.faults if stratum.faults else 0.5
        p += weight * share
        variance += weight**2 * share * (1 - share) / max(1, stratum.faults) * stratum.correction()
    return p, variance


def _total(strata: Sequence[Stratum]) -> float:
    total = sum(stratum.population + stratum.known for stratum in strata)
    if not total:
        raise ValueError("strata must hold at least one fault, not none")
    return total


def stratified_interval(strata: Sequence[Stratum], confidence: float = 0.95, of: IntervalOf = wilson) -> Interval:
    """Return the interval of a stratified estimate.

    The strata's own intervals are combined by variance recovery (MOVER; Yan and Su, Stratified Wilson and Newcombe confidence
    intervals for multiple binomial proportions, Statistics in Biopharmaceutical Research 2010), so it has a width even where no
    stratum was hit, which the normal approximation has not. One endless stratum gives `of` itself. Different from the paper:
    weights are shares of the population, and distances shrink by the square root of the finite population correction.
    """
    total = _total(strata)
    p, _ = stratified_estimate(strata)
    below = above = 0.0
    for stratum in strata:
        low, high = of(stratum.hits, stratum.faults, confidence)
        share = stratum.hits / stratum.faults if stratum.faults else 0.5
        weight = (stratum.population / total) ** 2 * stratum.correction()
        below += weight * (share - low) ** 2
        above += weight * (high - share) ** 2
    return Interval(max(0.0, p - math.sqrt(below)), min(1.0, p + math.sqrt(above)))


def neyman_allocation(faults: int, populations: Sequence[float], shares: Sequence[float], *,
                      floor: int | Sequence[int] = STRATUM_FLOOR) -> list[int]:
    """Return how many of `faults` each stratum gets: n_h ~ N_h √(p_h q_h), at least `floor`, at most all that it has.

    Parameters
    ----------
    faults : int
        To give out; floors are given even where they add up to more.
    populations : sequence of float
    shares : sequence of float
        Estimates of p_h from a pilot. Where all are 0 or 1, strata get what their size asks for.
    floor : int or sequence of int
        Of all, or of each: what a pilot has drawn already.
    """
    sizes = np.asarray(populations, dtype=float)
    p = np.asarray(shares, dtype=float)
    spread = sizes * np.sqrt(p * (1 - p))
    if not spread.any():
        spread = sizes
    least = np.minimum(sizes, floor)

    def given(scale: float) -> npt.NDArray[np.float64]:
        return np.clip(scale * spread, least, sizes)

    low, high = 0.0, float(sizes.max() / spread[spread > 0].min())
    for _ in range(100):        # what strata get grows with the scale
        middle = (low + high) / 2
        low, high = (middle, high) if given(middle).sum() <= faults else (low, middle)
    wanted = given(low)
    whole = np.floor(wanted + 1e-6).astype(int)
    for stratum in np.argsort(whole - wanted)[:max(0, faults - int(whole.sum()))]:      # what rounding has left over
        whole[stratum] += whole[stratum] < sizes[stratum]
    return [int(n) for n in whole]


def effective_sample_size(weights: npt.ArrayLike) -> float:
    """Return (Σ w)² / Σ w²: how many draws of equal weight a weighted sample is worth."""
    w = np.asarray(weights, dtype=float)
    return float(w.sum() ** 2 / (w * w).sum()) if w.any() else 0.0


def checked_sample_size(weights: npt.ArrayLike) -> float:
    """Return the effective sample size of an importance sample.

    Raises
    ------
    ValueError
        If it is below 100.
    """
    worth = effective_sample_size(weights)
    if worth < LEAST_EFFECTIVE_SAMPLE:
        raise ValueError(f"an importance sample must be worth at least {LEAST_EFFECTIVE_SAMPLE} draws, not {worth:.1f}: "
                         "draw more faults, or use scores that differ less")
    return worth


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """When a growing campaign looks at its results, and what that costs.

    Batches double. Every look is a chance to stop by luck, so look k spends α / 2^k of the error α = 1 − confidence: all looks
    together never spend more than α, and the intervals of the look at which it stops hold with at least `confidence`.

    Attributes
    ----------
    target : float
        Half-width at which to stop.
    confidence : float
    first : int
        Faults at the first look.
    """

    target: float
    confidence: float = 0.95
    first: int = 1000

    def __post_init__(self) -> None:
        """Check the target."""
        if not 0 < self.target < 0.5:
            raise ValueError(f"--ci must be between 0 and 0.5, not {self.target!r}")

    def confidence_at(self, look: int) -> float:
        """Return the confidence of the intervals at look 1, 2, …"""
        if look < 1:
            raise ValueError(f"look must be at least 1, not {look!r}")
        return 1.0 - (1.0 - self.confidence) / 2.0**look

    @staticmethod
    def matters(share: float) -> bool:
        """Return whether a part that carries so much of the failure rate must be known as well as asked for."""
        return share > LEAST_SHARE

    def met(self, intervals: Sequence[Interval]) -> bool:
        """Return whether all intervals, at a look's confidence, are narrow enough."""
        return all(interval.half_width <= self.target for interval in intervals)
