"""What a campaign found: outcomes, and how vulnerable units, register groups, phases and bit positions are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.analysis import Lifetimes
from flows.fault.campaign.sampler import Sampler
from flows.fault.campaign.words import Words
from flows.fault.figures.iso26262 import Rates, Structure
from flows.fault.figures.statistics import Interval, Stratum, stratified_estimate, stratified_interval, wilson
from flows.fault.figures.statistics import IntervalOf as IntervalOf
from flows.fault.records import FAULT, OUTCOME, Outcome

__all__ = ["DANGEROUS", "RESULT", "Results", "Row", "outcome_counts"]

RESULT = np.dtype([("index", "<u8"), ("stratum", "<u4"), *((name, FAULT[name]) for name in FAULT.names or ()),
                   *((name, OUTCOME[name]) for name in OUTCOME.names or ())])
"""One simulated fault: its index and stratum in the plan, the fault, the outcome."""
_OF_A_MECHANISM = re.compile(
    r"(^|[._])(registers_(parity|dmr|tmr)|guard(_\d+)?|scrubber|monitor|twin|comparator|check(er|sum)?)([._]|$)")
"""Paths of what is there for protection only: banks, codes of memories, twins, checkers."""
DANGEROUS = (Outcome.SDC, Outcome.PROTOCOL, Outcome.HANG)
"""Outcomes that go wrong without a word."""


def outcome_counts(outcomes: npt.NDArray[Any]) -> dict[str, Any]:
    """Return `{masked, corrected, detected, sdc, hang}`, which add up to all faults, and beside it what they are made of."""
    count = np.bincount(outcomes, minlength=len(Outcome)).tolist()
    return {"outcomes": {"masked": count[Outcome.MASKED], "corrected": count[Outcome.CORRECTED],
                         "detected": count[Outcome.DUE] + count[Outcome.DETECTED_BENIGN], "sdc": count[Outcome.SDC],
                         "hang": count[Outcome.HANG] + count[Outcome.PROTOCOL]},
            "subclasses": {"detected": {"due": count[Outcome.DUE], "detected_benign": count[Outcome.DETECTED_BENIGN]},
                           "hang": {"hang": count[Outcome.HANG], "protocol_violation": count[Outcome.PROTOCOL]}}}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found out about one part of the population.

    Attributes
    ----------
    name : str
    bits : int
        Of state; 0 where the part is one of time.
    population : int
        Faults that there are, bit × cycle.
    live : float
        Share of them that the analysis could not prove to be masked.
    faults : int
        Simulated.
    counts : tuple of int
        By `Outcome`.
    rates : dict of str to float or None, intervals : dict of str to Interval
        Shares of the population, provably masked faults included, that end as "sdc", "due", "hang" (with "protocol" in it),
        "dangerous" (SDC or hang: nothing flagged), "detected", "corrected", or with any "effect"; None where nothing was
        simulated.
    """

    name: str
    bits: int
    population: int
    live: float
    faults: int
    counts: tuple[int, ...]
    rates: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON types."""
        return {"bits": self.bits, "live": self.live, "faults": self.faults,
                "counts": {outcome.name.lower(): self.counts[outcome] for outcome in Outcome}, "avf": self.rates,
                "ci95": {name: list(interval) for name, interval in self.intervals.items()}}


_RATES: dict[str, tuple[Outcome, ...]] = {
    "sdc": (Outcome.SDC,), "due": (Outcome.DUE,), "dangerous": DANGEROUS, "detected": (Outcome.DUE, Outcome.DETECTED_BENIGN),
    "corrected": (Outcome.CORRECTED,), "hang": (Outcome.HANG, Outcome.PROTOCOL), "protocol": (Outcome.PROTOCOL,),
    "effect": tuple(outcome for outcome in Outcome if outcome != Outcome.MASKED),
}


class Results:
    """Rows of a campaign, and what they say of the whole population and its parts.

    AVF(part) = share of (bit, cycle) pairs of the part whose upset ends so. Strata are weighted by their size; what the access
    trace proves to be masked counts as masked, exactly; a stratum from which nothing fell into the part is taken to be like the
    rest.

    Parameters
    ----------
    words : Words
    lifetimes : Lifetimes
    sampler : Sampler
    rows : (n,) RESULT
    confidence : float
    of : function
        `wilson` or `clopper_pearson`.
    """

    def __init__(self, words: Words, lifetimes: Lifetimes, sampler: Sampler, rows: npt.NDArray[Any], *,
                 confidence: float = 0.95, of: IntervalOf = wilson):
        self.words, self.sampler, self.rows = words, sampler, rows
        self._lifetimes, self._confidence, self._of = lifetimes, confidence, of

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        """Word of each place of the population."""
        return self.sampler.population.words()

    @cached_property
    def _hit(self) -> npt.NDArray[np.int64]:
        """Place of the population that each simulated fault hit."""
        population, words = self.sampler.population, self.words.rows_of(self.rows["site"])
        return population.first_places[words] + population.patterns.places(self.words.widths[words], self.rows["mask"])

    def total(self) -> Row:
        """Return the row of everything."""
        return self._table(np.zeros(len(self._places), np.int64), ["all"])[0]

    def by_unit(self) -> list[Row]:
        """Return a row for each unit."""
        return self._table(self.words.units[self._places], self.words.unit_names)

    def by_group(self) -> list[Row]:
        """Return a row for each register group and memory."""
        return self._table(self.words.groups[self._places], self.words.group_names)

    def by_words(self, labels: npt.NDArray[np.int64], names: Sequence[str]) -> list[Row]:
        """Return a row for each name, of the words with its label."""
        return self._table(labels[self._places], names)

    def by_class(self) -> list[Row]:
        """Return a row for control, config, data, memory."""
        return self._table(self.words.classes[self._places], self.words.class_names)

    def by_phase(self) -> list[Row]:
        """Return a row for each phase of the run."""
        population = self.sampler.population
        return self._table(np.zeros(len(self._places), np.int64), population.phase_names, population.phases)

    def by_bit(self) -> list[Row]:
        """Return a row for each bit position in its register, from bit 0; of several bits, that of the lowest."""
        lows = self.words.lows[self._places] + self.sampler.population.lows()
        return self._table(lows, [str(low) for low in range(int(lows.max()) + 1)])

    def by_storage(self) -> list[Row]:
        """Return a row for flip-flops and one for memories."""
        return self._table(self.words.memory[self._places].astype(np.int64), ["flip-flops", "memories"])

    def by_unit_and_time(self, bins: int) -> tuple[list[str], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return units, the cycles at which bins begin and the last one ends, and (unit, bin) rates of dangerous outcomes.

        A rate is NaN where nothing was simulated.
        """
        cycles = self.sampler.population.cycles
        bins = min(bins, cycles)
        labels = np.arange(cycles) * bins // cycles
        names = list(self.words.unit_names)
        rows = self._table(self.words.units[self._places], [str(i) for i in range(len(names) * bins)], labels, bins)
        values = [np.nan if row.rates["dangerous"] is None else row.rates["dangerous"] for row in rows]
        return names, np.searchsorted(labels, np.arange(bins + 1)).astype(float), np.array(values, float).reshape(-1, bins)

    def structures(self) -> list[Structure]:
        """Return what the figures of ISO 26262 are made of: flip-flops, memories, safety mechanisms of each unit."""
        kinds = ("flip-flops", "memories", "flip-flops of mechanisms", "memories of mechanisms")
        names = [f"{unit}, {kind}" for unit in self.words.unit_names for kind in kinds]
        mechanism = np.array([bool(_OF_A_MECHANISM.search(path)) for path in self.words.paths])
        rows = self._table((len(kinds) * self.words.units + 2 * mechanism + self.words.memory)[self._places], names)
        return [structure_of(row, memory=index % 2 == 1, mechanism=index % 4 > 1) for index, row in enumerate(rows) if row.bits]

    def strata(self, rates: Rates | None = None) -> list[tuple[str, float, Stratum, Stratum]]:
        """Return name, share of the failure rate, and what is known of SDC and of all dangerous outcomes, of each stratum.

        The share is the larger one of that of all faults and that of the dangerous ones, as far as they are known.
        """
        rates = rates or Rates()
        cells = self._cells(np.zeros(len(self._places), np.int64), 1, None, 1)
        storage = self._cells(self.words.memory[self._places].astype(np.int64), 2, None, 1).population
        silent, dangerous = ([cells.stratum(0, s, outcomes) for s in range(len(self.sampler.names))]
                             for outcomes in ((Outcome.SDC,), DANGEROUS))
        fit = rates.logic * storage[0] + rates.memory * storage[1]
        found = np.array([known.hits / known.faults * known.population / (known.population + known.known) if known.faults else 0.0
                          for known in dangerous])
        share = np.maximum(fit / fit.sum(), fit * found / ((fit * found).sum() or 1.0))
        return list(zip(self.sampler.names, share.tolist(), silent, dangerous, strict=True))

    def _table(self, domains: npt.NDArray[np.int64], names: Sequence[str], cycle_domains: npt.NDArray[np.int64] | None = None,
               cycle_count: int = 0) -> list[Row]:
        """Return a row for each domain: of bits, or of bits × cycles where cycles have domains too."""
        count = (cycle_count or len(names)) if cycle_domains is not None else 1
        cells = self._cells(domains, len(names) // count, cycle_domains, count)
        each = (self.words.widths / np.diff(self.sampler.population.first_places))[self._places]       # bits of a place
        bits = np.round(np.bincount(domains, weights=each, minlength=len(names) // count)).astype(np.int64).repeat(count)
        if cycle_domains is not None and not cycle_count:
            bits = np.zeros(len(names), np.int64)
        return [self._row(cells, domain, name, int(bits[domain])) for domain, name in enumerate(names)]

    def _row(self, cells: "_Cells", domain: int, name: str, bits: int) -> Row:
        population, live = cells.population[domain].sum(), cells.live[domain].sum()
        counts = tuple(int(n) for n in cells.counts[domain].sum(0))
        rates: dict[str, float | None] = dict.fromkeys(_RATES)
        intervals = {}
        for rate, outcomes in _RATES.items():
            if not population or (live and not sum(counts)):
                continue
            strata = _like_the_rest([cells.stratum(domain, s, outcomes) for s in range(cells.live.shape[1])
                                     if cells.population[domain, s]])
            rates[rate] = min(1.0, stratified_estimate(strata)[0])
            intervals[rate] = stratified_interval(strata, self._confidence, self._of)
        return Row(name=name, bits=bits, population=int(population), live=float(live / population) if population else 0.0,
                   faults=sum(counts), counts=counts, rates=rates, intervals=intervals)

    def _cells(self, domains: npt.NDArray[np.int64], domain_count: int, cycle_domains: npt.NDArray[np.int64] | None,
               cycle_count: int) -> "_Cells":
        """Return sizes and outcomes of each (domain, stratum)."""
        place_label, cycle_label, table = self.sampler.partition()
        labels, phases = table.shape
        joint = cycle_label if cycle_domains is None else cycle_domains * phases + cycle_label
        # Places of one word, domain and label share their lifetimes.
        keys = (self._places * domain_count + domains) * labels + place_label
        kinds, places = np.unique(keys, return_counts=True)
        word, domain, label = kinds // labels // domain_count, kinds // labels % domain_count, kinds % labels
        live = self._lifetimes.live_cycles(joint, cycle_count * phases)[word] * places[:, None]
        whole = np.bincount(joint, minlength=cycle_count * phases)
        strata = len(self.sampler.names)
        shape = (domain_count * cycle_count, strata)
        sizes = np.zeros((2, *shape))
        for part in range(cycle_count * phases):
            cycle_domain, phase = divmod(part, phases)
            stratum = table[label, phase]
            cell = (domain * cycle_count + cycle_domain) * strata + stratum
            there = stratum >= 0
            for index, values in enumerate((places * whole[part], live[:, part])):
                sizes[index] += np.bincount(cell[there], weights=values[there], minlength=shape[0] * strata).reshape(shape)
        hit, cycles = self._hit, self.rows["cycle"].astype(np.int64)
        mine = domains[hit] * cycle_count + (0 if cycle_domains is None else cycle_domains[cycles])
        cell = (mine * strata + self.rows["stratum"]) * len(Outcome) + self.rows["outcome"]
        counts = np.bincount(cell, minlength=shape[0] * strata * len(Outcome)).reshape(*shape, len(Outcome))
        return _Cells(population=sizes[0], live=sizes[1], counts=counts, replaced=self.sampler.plan.method == "importance")


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """(domain, stratum) → faults that there are, those that may be seen, and the outcomes of those simulated."""

    population: npt.NDArray[np.float64]
    live: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    replaced: bool

    def stratum(self, domain: int, stratum: int, outcomes: Sequence[Outcome]) -> Stratum:
        live = float(self.live[domain, stratum])
        return Stratum(population=live, faults=int(self.counts[domain, stratum].sum()), replaced=self.replaced,
                       hits=int(self.counts[domain, stratum, list(outcomes)].sum()),
                       known=float(self.population[domain, stratum]) - live)


def _like_the_rest(strata: list[Stratum]) -> list[Stratum]:
    """Return strata in which those that nothing was drawn from are spread over the others by size."""
    drawn = [s for s in strata if s.faults]
    there = sum(s.population for s in drawn)
    scale = sum(s.population for s in strata) / there if there else 1.0
    return [replace(s, population=s.population * scale) for s in drawn] + [
        replace(s, population=0.0) for s in strata if not s.faults]


def structure_of(row: Row, *, memory: bool, mechanism: bool = False) -> Structure:
    """Return a row as a structure of the figures of ISO 26262; what was not simulated may be anything.

    A fault in a safety mechanism that neither shows nor is told of is latent: it waits for the fault that the mechanism is for.
    """
    dangerous, effect = row.rates["dangerous"], row.rates["effect"]
    return Structure(name=row.name, bits=row.bits, dangerous=1.0 if dangerous is None else dangerous,
                     interval=row.intervals.get("dangerous", Interval(0.0, 1.0)), detected=row.rates["due"] or 0.0, memory=memory,
                     mechanism=mechanism, latent=1 - effect if mechanism and effect is not None else 0.0)
