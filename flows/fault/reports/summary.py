"""A campaign in figures: what `heddle inject` prints and keeps."""

from typing import Any

import numpy as np

from flows.fault.campaign.campaign import Campaign
from flows.fault.campaign.job import Job
from flows.fault.campaign.results import Results, Row, outcome_counts
from flows.fault.figures.iso26262 import Rates, mean_time_to_failure, metrics, sweep
from flows.fault.figures.statistics import clopper_pearson
from flows.fault.records import FAULT, PERMANENT, UPSETS, Kind, Outcome
from flows.fault.reports.criterion import TopOne, judged

__all__ = ["describe_fault", "latency", "summary"]


def summary(job: Job, campaign: Campaign, results: Results, rates: Rates | None,
            criterion: TopOne | None = None) -> dict[str, Any]:
    """Return the figures as plain JSON types.

    Without `rates`, of ISO 26262's figures there are only those that need none, as if all bits failed as often.

    `sdc_rate` is the share of all faults of the population, those that the access trace proves to be masked included;
    `sdc_rate_simulated` that of the simulated ones alone. With a criterion, `subclasses["sdc"]` says how many silent corruptions
    are tolerable and how many critical, of those looked at.
    """
    total, simulated = results.total(), len(results.rows)
    counts = outcome_counts(results.rows["outcome"])
    plan, spent = job.sampler.plan, campaign.spent
    if criterion is not None:
        silent = results.rows[results.rows["outcome"] == Outcome.SDC]
        counts["subclasses"]["sdc"] = judged(job.engine, criterion, silent[list(FAULT.names or ())].astype(FAULT))
    structures = results.structures()
    permanent = plan.kind in PERMANENT
    rated = rates is not None
    figures = metrics(structures, rates, permanent=permanent)
    parts = {name: [s for s in structures if s.memory == memory] for name, memory in (("logic", False), ("memory", True))}
    exact = Results(job.words, campaign.lifetimes, job.sampler, results.rows, confidence=campaign.confidence,
                    of=clopper_pearson).total()
    return {
        "faults": simulated, "masked_by_analysis": campaign.masked_by_analysis, **counts,
        "sdc_rate": total.rates["sdc"], "ci95": list(total.intervals["sdc"]),
        "sdc_ci95_clopper_pearson": list(exact.intervals["sdc"]),
        "sdc_rate_simulated": counts["outcomes"]["sdc"] / simulated,
        "dangerous_rate": total.rates["dangerous"], "dangerous_ci95": list(total.intervals["dangerous"]),
        "dangerous_ci95_clopper_pearson": list(exact.intervals["dangerous"]),
        "faults_per_second": spent.faults / spent.seconds if spent.seconds else None,
        "faults_per_cpu_second": spent.faults / spent.cpu_seconds if spent.cpu_seconds else None,
        "by_unit": _named(results.by_unit()), "by_group": _named(results.by_group()), "by_class": _named(results.by_class()),
        "by_phase": _named(results.by_phase()), "by_bit": _named(results.by_bit()), "by_storage": _named(results.by_storage()),
        "total": total.to_json(), "detection_latency": latency(results),
        "population": {"bits": job.sampler.population.bits, "cycles": job.sampler.population.cycles,
                       "faults": job.sampler.population.size, "live": total.live, "safe_bits": job.sites.safe_bits},
        "iso26262": {"fit_per_mbit": {"logic": rates.logic, "memory": rates.memory} if rates is not None else None,
                     **figures.to_json(rated=rated),
                     **{name: metrics(part, rates, permanent=permanent).to_json(rated=rated) if part else None
                        for name, part in parts.items()},
                     "not_simulated": [structure.name for structure in structures if structure.unknown],
                     "mttf_hours": _finite(mean_time_to_failure(figures.residual_fit)) if rated else None,
                     "sweep": sweep(structures) if rated else []},
        "effective_sample_size": campaign.effective_sample_size,
        "engine": job.engine.name, "golden_cycles": job.engine.golden_cycles, "target": job.target.name,
        "digest": job.identity["target"], "plan": plan.to_json(), "looks": campaign.looks,
        "confidence": campaign.confidence,
        "simulated_now": spent.faults, "seconds": spent.seconds, "cpu_seconds": spent.cpu_seconds,
    }


def _named(rows: list[Row]) -> dict[str, Any]:
    return {row.name: row.to_json() for row in rows}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def latency(results: Results) -> dict[str, float] | None:
    """Return median, 99th percentile and maximum of the cycles from a fault to its flag; None where nothing was flagged."""
    rows = results.rows[results.rows["first_flag"] >= 0]
    if not len(rows):
        return None
    cycles = rows["first_flag"].astype(np.int64) - rows["cycle"].astype(np.int64)
    p50, p99 = np.percentile(cycles, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(cycles.max())}


def describe_fault(job: Job, index: int) -> dict[str, Any]:
    """Return fault `index` of a plan and what becomes of it, as plain JSON types.

    Raises
    ------
    ValueError
        If the plan has no such fault.
    """
    job.sampler.check(index)
    indices = np.array([index], np.uint64)
    fault = job.sampler.faults(indices)[0]
    alive = True
    if job.sampler.plan.kind in UPSETS:
        rows = job.words.rows_of(np.array([fault["site"]], np.uint32))
        alive = bool(job.lifetimes.alive(rows, np.array([fault["cycle"]], np.int64))[0])
    outcome = job.engine.run(np.array([fault]))[0]
    site = int(fault["site"])
    register = job.sites.registers[int(job.sites.table["register"][site])]
    return {
        "index": index, "stratum": job.sampler.names[int(job.sampler.stratum_of(indices)[0])],
        "fault": {"site": site, "name": job.sites.name(site), "mask": int(fault["mask"]), "cycle": int(fault["cycle"]),
                  "duration": int(fault["duration"]), "kind": Kind(int(fault["kind"])).name.lower(), "source": register.source},
        "masked_by_analysis": not alive, "outcome": Outcome(int(outcome["outcome"])).name.lower(),
        **{name: int(outcome[name]) for name in ("first_difference", "first_flag", "end", "wrong_words", "largest_error")},
        "signature": f"{int(outcome['signature']):016x}",
    }
