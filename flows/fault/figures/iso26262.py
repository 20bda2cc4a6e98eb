"""What a campaign means in the terms of ISO 26262: failure rates, SPFM, LFM, PMHF, and the ASIL that they reach.

A FIT is a failure in 10⁹ hours of a device. Rates of upsets are an input: `flows/data/soft_errors.json` has some, with sources.
"""

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.fault.figures.statistics import Interval
from flows.synth.technology import Coefficient

__all__ = [
    "ASIL_TARGETS", "DEFAULT_FIT", "SWEEP", "Metrics", "Rates", "Structure", "asil_reached", "fit_rates", "mean_time_to_failure",
    "metrics", "sweep",
]

MBIT = 1 << 20
DEFAULT_FIT = 1000.0
"""Upsets per Mbit where nothing else is said."""
SWEEP = (100, 200, 500, 1000, 2000)
"""FIT per Mbit at which figures are printed."""
ASIL_TARGETS = {"D": (0.99, 0.90, 10.0), "C": (0.97, 0.80, 100.0), "B": (0.90, 0.60, 100.0)}
"""ASIL → least SPFM, least LFM, PMHF in FIT that must not be reached; ISO 26262-5, tables 4 to 6. D was read in secondary
sources, B and C are recalled."""


_SHARES = ("spfm", "spfm_low", "lfm")
"""Figures that need no failure rate, if all bits have the same."""


@functools.cache
def fit_rates() -> dict[str, Coefficient]:
    """Return name → FIT per Mbit of the data file."""
    text = (Path(__file__).resolve().parents[2] / "data" / "soft_errors.json").read_text()
    return {name: Coefficient(**entry) for name, entry in json.loads(text).items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Upsets per Mbit (2²⁰ bits) in 10⁹ hours.

    Attributes
    ----------
    logic, memory : float
        FIT per Mbit of flip-flops and of memory bits.
    """

    logic: float = DEFAULT_FIT
    memory: float = DEFAULT_FIT

    def __post_init__(self) -> None:
        """Check the rates."""
        for name in ("logic", "memory"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"FIT per Mbit of {name} must be a positive number, not {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """What a campaign found out about some bits.

    Attributes
    ----------
    name : str
    bits : int
    dangerous : float
        Share of the upsets that end in a wrong result, a broken bus rule or a hang which nothing flags.
    interval : Interval
        Of `dangerous`.
    detected : float
        Share of the upsets that end in a wrong or missing result, flagged.
    memory : bool
        Whether they are bits of a memory, else flip-flops.
    mechanism : bool
        Whether they belong to a safety mechanism.
    latent : float
        Share of the faults that neither show nor are flagged, so that they wait for a second one. Only of permanent faults: an
        upset that does nothing is gone.
    """

    name: str
    bits: int
    dangerous: float
    interval: Interval
    detected: float = 0.0
    memory: bool = False
    mechanism: bool = False
    latent: float = 0.0

    @property
    def unknown(self) -> bool:
        """Whether no fault tells anything of it, so that the worst is assumed."""
        return self.dangerous == 1 and self.interval == (0.0, 1.0)

    def fit(self, rates: Rates) -> float:
        """Return the FIT of its bits."""
        return self.bits / MBIT * (rates.memory if self.memory else rates.logic)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Figures of merit of a set of structures.

    Attributes
    ----------
    fit : float
        All upsets.
    residual_fit, residual_interval : float, Interval
        Upsets that end dangerously: λ_SPF + λ_RF.
    detected_fit : float
        Upsets that end in a detected, uncorrected error.
    spfm, spfm_low : float
        Single-point fault metric, and its lower end.
    lfm : float or None
        Latent-fault metric; None for transient faults, which cannot be latent, and where there is no safety mechanism.
    pmhf, pmhf_high : float
        FIT, and its upper end.
    asil : str or None
        The highest ASIL whose targets the point estimates reach.
    asil_claimed : str or None
        The highest ASIL whose targets hold at the bad ends of the intervals.
    """

    fit: float
    residual_fit: float
    residual_interval: Interval
    detected_fit: float
    spfm: float
    spfm_low: float
    lfm: float | None
    pmhf: float
    pmhf_high: float
    asil: str | None
    asil_claimed: str | None

    def to_json(self, *, rated: bool = True) -> dict[str, object]:
        """Return the figures as plain JSON types; where rates are not known, `rated` false, only shares: the rest is None."""
        figures = self._figures()
        return figures if rated else {name: value if name in _SHARES else None for name, value in figures.items()}

    def _figures(self) -> dict[str, object]:
        return {"fit": self.fit, "residual_fit": self.residual_fit, "residual_fit_ci95": list(self.residual_interval),
                "detected_fit": self.detected_fit, "spfm": self.spfm, "spfm_low": self.spfm_low, "lfm": self.lfm,
                "pmhf_fit": self.pmhf, "pmhf_fit_high": self.pmhf_high, "asil": self.asil, "asil_claimed": self.asil_claimed}


def asil_reached(spfm: float, lfm: float | None, pmhf: float) -> str | None:
    """Return the highest ASIL whose targets hold, "D", "C" or "B"; None below. Without an LFM that target is left out."""
    for level, (least_spfm, least_lfm, most) in ASIL_TARGETS.items():
        if spfm >= least_spfm and (lfm is None or lfm >= least_lfm) and pmhf < most:
            return level
    return None


def metrics(structures: Sequence[Structure], rates: Rates | None = None, *, permanent: bool = False,
            lifetime_hours: float = 0.0) -> Metrics:
    """Return the figures of structures taken together.

    ``SPFM = 1 − Σ λ·dangerous / Σ λ``; ``LFM = 1 − Σ λ·latent / Σ λ·(1 − dangerous)``;
    ``PMHF = Σ λ·dangerous + Σ λ_intended · Σ λ_mechanism·latent · lifetime``.

    Parameters
    ----------
    structures : sequence of Structure
    rates : Rates or None
    permanent : bool
        Whether the faults stay: only then there is an LFM and the dual-point term of the PMHF.
    lifetime_hours : float
        Of the device, for the dual-point term.

    Raises
    ------
    ValueError
        If there are no bits.
    """
    rates = rates or Rates()
    total = sum(s.fit(rates) for s in structures)
    if not total:
        raise ValueError("structures must hold at least one bit, not none")
    residual = sum(s.fit(rates) * s.dangerous for s in structures)
    below, above = (math.sqrt(sum((s.fit(rates) * (getattr(s.interval, end) - s.dangerous)) ** 2 for s in structures))
                    for end in ("low", "high"))
    interval = Interval(max(0.0, residual - below), min(total, residual + above))
    lfm, dual = None, 0.0
    if permanent and any(s.mechanism for s in structures):
        left = total - residual
        lfm = 1 - sum(s.fit(rates) * s.latent for s in structures) / left if left else 0.0
        intended = sum(s.fit(rates) for s in structures if not s.mechanism)
        dual = intended * sum(s.fit(rates) * s.latent for s in structures if s.mechanism) * lifetime_hours * 1e-9
    spfm, spfm_low = 1 - residual / total, 1 - interval.high / total
    pmhf, pmhf_high = residual + dual, interval.high + dual
    return Metrics(fit=total, residual_fit=residual, residual_interval=interval,
                   detected_fit=sum(s.fit(rates) * s.detected for s in structures), spfm=spfm, spfm_low=spfm_low, lfm=lfm,
                   pmhf=pmhf, pmhf_high=pmhf_high, asil=asil_reached(spfm, lfm, pmhf),
                   asil_claimed=asil_reached(spfm_low, lfm, pmhf_high))


def sweep(structures: Sequence[Structure], fits: Iterable[float] = SWEEP) -> list[dict[str, object]]:
    """Return the figures at several FIT per Mbit: of logic, of memories, and of both; None where there are no such bits."""
    rows: list[dict[str, object]] = []
    parts = {"logic": [s for s in structures if not s.memory], "memory": [s for s in structures if s.memory],
             "total": list(structures)}
    for fit in fits:
        rates = Rates(logic=fit, memory=fit)
        rows.append({"fit_per_mbit": fit, **{name: metrics(part, rates).to_json() if any(s.bits for s in part) else None
                                             for name, part in parts.items()}})
    return rows


def mean_time_to_failure(fit: float) -> float:
    """Return the hours that pass until a failure, on average; infinite where there is none."""
    return 1e9 / fit if fit else math.inf
