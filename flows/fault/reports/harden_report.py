"""The page of a hardening: before and after, the Pareto curve, what was chosen."""

from typing import Any

from flows.fault.reports.campaign_report import share
from flows.view.curve import tradeoff_curve
from flows.view.report import card, report_page, table
from hw.protect.domains import NONE

__all__ = ["harden_page"]

_ROWS = 30


def harden_page(answer: dict[str, Any], *, title: str) -> str:
    """Return the HTML of what `heddle harden` found.

    Parameters
    ----------
    answer : dict
        Its JSON.
    title : str
    """
    base = answer["areas"]["before"]["area"] if answer["areas"] else None
    chosen = [group for group in answer["groups"] if group["mechanism"] != NONE]
    facts = {
        "SPFM of the flip-flops": f"{answer['spfm']:.3%} (at least {answer['spfm_low']:.3%})",
        "over the unprotected design's bits": f"{answer['spfm_of_original_bits']:.3%}",
        "target": f"{answer['target_spfm']:.2%}, {'met' if answer['target_met'] else 'missed'}",
        "area of the logic": "–" if base is None else
        f"{answer['measured_overhead']:+.1%} (predicted {answer['predicted_overhead']:+.1%})",
        "groups protected": f"{len(chosen)} of {len(answer['groups'])}",
        "prediction": "agrees" if answer["agrees"] else "differs",
    }
    cards = [card(_sides(answer), title="Before and after"),
             card(_pareto(answer, base),
                  note="Each point of the curve is the least area for what it leaves. Unprotected and chosen are "
                  "estimates with what few faults cannot exclude; injected again is what the campaign after says."),
             card(_chosen(chosen), title="What is protected, most dangerous first"),
             card(_greedy(answer), title="Rate saved per area: what a person would protect first")]
    return report_page(title, facts, cards)


def _sides(answer: dict[str, Any]) -> str:
    sides = [answer[name] for name in ("before", "base", "after")]
    rows = [["silent corruption", *(share(side["sdc_rate"], side["ci95"]) for side in sides)]]
    rows += [[name, *(share(side["total"]["avf"][name]) for side in sides)] for name in ("detected", "corrected", "hang")]
    for part, words in (("logic", "flip-flops"), ("memory", "memories")):
        if all(side[part] for side in sides):
            rows.append([f"{words}: residual FIT", *(_fit(side[part]) for side in sides)])
            rows.append([f"{words}: SPFM", *(f"{side[part]['spfm']:.3%}" for side in sides)])
    rows.append(["cycles", *(f"{side['golden_cycles']:,}" for side in sides)])
    for name, words in (("area", "logic, NAND2"), ("memory_area", "memory macros, NAND2"), ("flip_flops", "flip-flops")):
        if answer["areas"]:
            rows.append([words, f"{answer['areas']['before'][name]:,.0f}", "–", f"{answer['areas']['after'][name]:,.0f}"])
    low, high = answer["predicted_fit_ci95"]
    mlow, mhigh = answer["measured_fit_ci95"]
    base = "memories" if answer["mesh"] == NONE else f"memories, array ({answer['mesh']})"
    return table(("", "before", base, "after"), rows) + (
        f"<p>Flip-flops: predicted {answer['predicted_fit']:.3g} FIT [{low:.3g}, {high:.3g}], injected again "
        f"{answer['measured_fit']:.3g} [{mlow:.3g}, {mhigh:.3g}].</p>")


def _fit(part: dict[str, Any]) -> str:
    low, high = part["residual_fit_ci95"]
    return f"{part['residual_fit']:.4g} [{low:.3g}, {high:.3g}]"


def _pareto(answer: dict[str, Any], base: float | None) -> Any:
    scale, unit = (100 / base, "area added to the logic, %") if base else (1.0, "area added, NAND2 equivalents")
    points = [(point["area"] * scale, point["fit"]) for point in answer["curve"]]
    whole = answer["before"]["logic"]["fit"]
    left = sum(group["left"] for group in answer["groups"])
    marks = [(0.0, answer["curve"][0]["fit"], "unprotected", "wait"), (answer["predicted_area"] * scale, left, "chosen", "load")]
    if base:
        marks.append((100 * answer["measured_overhead"], answer["measured_fit"], "injected again", "store"))
    return tradeoff_curve(points, marks, title="Pareto curve of protection", x_label=unit, y_label="residual FIT of flip-flops",
                          limit=(1 - answer["target_spfm"]) * whole, limit_label=f"SPFM {answer['target_spfm']:.1%}",
                          width=1180, height=420)


def _chosen(chosen: list[dict[str, Any]]) -> str:
    if not chosen:
        return "<p>Nothing: the target holds without.</p>"
    rows = [[group["group"], group["mechanism"], f"{group['bits']:,}", f"{group['fit']:.4g}", f"{group['area']:,.0f}"]
            for group in sorted(chosen, key=lambda group: -group["fit"])[:_ROWS]]
    more = f"<p>{len(chosen) - _ROWS} more in result.json.</p>" if len(chosen) > _ROWS else ""
    return table(("register group", "mechanism", "bits", "FIT before", "NAND2 added"), rows) + more


def _greedy(answer: dict[str, Any]) -> str:
    rows = [[f"{place + 1}. {entry['group']}", entry["mechanism"], f"{1e6 * entry['fit_per_area']:.4g}"]
            for place, entry in enumerate(answer["greedy"][:_ROWS])]
    return table(("register group", "mechanism", "FIT per million NAND2"), rows)
