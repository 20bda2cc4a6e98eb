"""The page of a campaign: outcomes with intervals, heat maps of units, time and PEs, bit positions, figures of ISO 26262."""

import math
import re
from typing import Any

import numpy as np

from flows.fault.campaign.job import Job
from flows.fault.campaign.results import Results, Row
from flows.synth.technology import technology
from flows.view.heat import Tile, heat_grid, treemap
from flows.view.report import card, pair, report_page, table
from flows.view.svg import Svg

__all__ = ["OUTCOME_COLORS", "campaign_page", "share"]

OUTCOME_COLORS = {"masked": "line", "corrected": "store", "detected": "load", "sdc": "wait", "hang": "vector"}
_FLIP_FLOP_NAND2 = 6.75
"""Area of a flip-flop in the library whose SRAM macros `flows/data/technology.json` measures: 48.99 of 7.2576 µm²."""
_ORDER = ("sdc", "hang", "detected", "corrected", "masked")
_TIME_BINS, _GROUPS, _BITS, _SURE = 72, 30, 64, 20


def share(rate: float | None, interval: Any = None) -> str:
    """Return a share in percent, with its interval in brackets."""
    if rate is None:
        return "–"
    return f"{rate:.2%}" + ("" if interval is None else f" [{interval[0]:.2%}, {interval[1]:.2%}]")


def campaign_page(job: Job, results: Results, answer: dict[str, Any], *, title: str) -> str:
    """Return the HTML of a campaign's report.

    Parameters
    ----------
    job : Job
    results : Results
    answer : dict
        Of `flows.fault.reports.summary.summary`.
    title : str
    """
    iso, population = answer["iso26262"], answer["population"]
    facts = {
        "faults simulated": f"{answer['faults']:,} {answer['plan']['kind']}",
        "population": f"{population['bits']:,} bits × {population['cycles']:,} cycles",
        "masked by analysis": f"{answer['masked_by_analysis']:,} drawn, {1 - population['live']:.1%} of all",
        "silent corruption": share(answer["sdc_rate"], answer["ci95"]),
        **{f"SPFM of {words}": f"{part['spfm']:.3%} (at least {part['spfm_low']:.3%})"
           for words, part in (("flip-flops", iso["logic"]), ("memories", iso["memory"])) if part is not None},
        "engine": answer["engine"],
        "faults per second": f"{answer['faults_per_second']:,.0f}" if answer["faults_per_second"] else "–",
    }
    cards = [pair(card(_outcomes(answer), title="Outcomes"), card(_bars(results.by_unit()))),
             card(_die(results),
                  note="Area: of what can be hit alone, a bit of a flip-flop (or gate) as 6.75 NAND2, of a memory as in an SRAM "
                  "macro; what lies between is not drawn. Colour: share of faults that end in silent corruption or a hang. Point "
                  "at a rectangle for its numbers.")]
    mesh = _mesh(job, results)
    if mesh is not None:
        cards.append(card(mesh))
    cards += [card(_time(results), note="Upsets in each stretch of time that end in silent corruption or a hang."),
              pair(card(_bits(results)), card(_phases(results), title="Phases")),
              card(_groups(results), title="Register groups and memories, most silent corruption first"),
              _safety_card(iso)]
    if answer["looks"]:
        rows = [[str(look["look"]), f"{look['faults']:,}", f"{look['confidence']:.3%}", f"± {look['widest']:.4f}",
                 look["stratum"], "yes" if look["met"] else "no"] for look in answer["looks"]]
        cards.append(card(table(("look", "faults", "confidence", "widest", "stratum", "enough"), rows), title="Looks"))
    return report_page(title, facts, cards)


def _outcomes(answer: dict[str, Any]) -> str:
    total, counts, detected = answer["total"], answer["outcomes"], answer["subclasses"]["detected"]
    rows = []
    for name, key in (("masked", "masked"), ("corrected", "corrected"), ("detected", "detected"),
                      ("silent data corruption", "sdc"), ("hang or broken bus rule", "hang")):
        rate, interval = total["avf"].get(key), total["ci95"].get(key)
        if key == "masked":
            low, high = total["ci95"]["effect"]
            rate, interval = 1 - total["avf"]["effect"], (1 - high, 1 - low)
        rows.append([name, f"{counts[key]:,}", share(counts[key] / answer["faults"]), share(rate, interval)])
        if key == "detected":
            rows += [[f"– {words}", f"{detected[which]:,}", share(detected[which] / answer["faults"]), ""] for which, words in
                     (("due", "result wrong or missing (DUE)"), ("detected_benign", "result right all the same"))]
    low, high = answer["dangerous_ci95_clopper_pearson"]
    rows.append(["nothing flagged, to claim", "", "", f"at most {high:.3%} [exact, {50 * (1 + answer['confidence']):.4g} %]"])
    latency = answer["detection_latency"]
    text = table(("outcome", "faults", "of simulated", "of all faults, 95 %"), rows)
    if latency:
        text += (f"<p>Cycles from a fault to its flag: median {latency['p50']:g}, 99th percentile {latency['p99']:.0f}, "
                 f"at most {latency['max']:g}.</p>")
    return text


def _bars(rows: list[Row], width: int = 620) -> Svg:
    """Return a bar of outcomes for each unit; where most upsets do nothing, the axis ends at the most that any unit shows."""
    rows = sorted(rows, key=lambda row: -(row.rates["dangerous"] or 0))
    svg = Svg(width, 72 + 26 * len(rows), "What becomes of upsets, by unit")
    left, right = 130, width - 16
    highest = 1.1 * max((row.rates["effect"] or 0 for row in rows), default=1.0)
    highest = 1.0 if highest > 0.5 or highest <= 0 else highest
    svg.text(right, 22, f"whole width: {highest:.3g} of all upsets" if highest < 1 else "of all upsets", size=11, color="muted",
             anchor="end")
    svg.text(14, 22, "What becomes of upsets, by unit", size=14, bold=True)
    x = float(left)
    for name in _ORDER:
        words = "silent" if name == "sdc" else name
        svg.rect(x, 34, 12, 10, fill=OUTCOME_COLORS[name], stroke="none", radius=2)
        svg.text(x + 17, 43, words, size=11, color="muted")
        x += 30 + 6.6 * len(words)
    for index, row in enumerate(rows):
        y, at = 56 + 26 * index, float(left)
        svg.text(left - 10, y + 14, row.name if len(row.name) < 19 else row.name[:17] + "…", size=12, anchor="end")
        svg.rect(left, y, right - left, 18, fill="panel", stroke="line", radius=2)
        for name in _ORDER:
            part = 1 - (row.rates["effect"] or 0) if name == "masked" else row.rates[name] or 0
            if row.rates["effect"] is not None and part > 0:
                wide = min((right - left) * part / highest, right - at)
                svg.rect(at, y, wide, 18, fill=OUTCOME_COLORS[name], tint=0.9, stroke="none",
                         tip=f"{row.name}: {part:.3%} {name}, {row.faults:,} faults")
                at += wide
    return svg


def _area(row: Row, memory: bool) -> float:
    """Return the area of bits of state in NAND2 equivalents."""
    if not memory:
        return row.bits * _FLIP_FLOP_NAND2
    data = technology()
    return row.bits * float(data["sram_width"][1] * data["sram_height"][1] / data["reference_nand2"])


def _die(results: Results) -> Svg:
    """Return the units with their register groups, as large as their state, coloured by dangerous upsets."""
    words = results.words
    names = [f"{unit}\n{group}" for unit in words.unit_names for group in words.group_names]
    rows = results.by_words(words.units * len(words.group_names) + words.groups, names)
    memory = {(int(unit), int(group)): bool(kind) for unit, group, kind in zip(words.units, words.groups, words.memory,
                                                                               strict=True)}
    top = max((row.rates["dangerous"] or 0 for row in rows if row.faults >= _SURE), default=0) or 1.0
    tiles = []
    for unit, unit_name in enumerate(words.unit_names):
        parts, bits = [], 0
        for group, group_name in enumerate(words.group_names):
            row = rows[unit * len(words.group_names) + group]
            if row.bits:
                rate = row.rates["dangerous"]
                bits += row.bits
                parts.append(Tile(name=group_name.rpartition(".")[2], size=_area(row, memory[unit, group]),
                                  heat=None if rate is None else min(1.0, math.sqrt(rate / top)),
                                  tip=f"{group_name}\n{row.bits:,} bits, {row.faults:,} faults\nsilent or hang: "
                                      f"{share(rate, row.intervals.get('dangerous'))}\ndetected: {share(row.rates['detected'])}"))
        tiles.append(Tile(name=unit_name, size=sum(part.size for part in parts), parts=tuple(parts),
                          tip=f"{unit_name}: {bits:,} bits"))
    return treemap(tiles, title="Vulnerability of the state", top=100 * top,
                   subtitle="units, and in them register groups and memories; the scale is one of square roots, up to the "
                   f"highest rate of groups with {_SURE} faults or more")


def _mesh(job: Job, results: Results) -> Svg | None:
    """Return the array's PEs as a grid, where the sites have any."""
    places = [re.search(r"(?:^|[._])row_(\d+)\.pe_(\d+)(?:\.|$)", path) for path in results.words.paths]
    if not any(places):
        return None
    rows, columns = (1 + max(int(place[i]) for place in places if place) for i in (1, 2))
    labels = np.array([int(place[1]) * columns + int(place[2]) if place else rows * columns for place in places])
    found = results.by_words(labels, [""] * (rows * columns + 1))[:-1]
    values = [[found[r * columns + c].rates["dangerous"] for c in range(columns)] for r in range(rows)]
    return heat_grid(values, [f"row {r}" for r in range(rows)], [f"pe {c}" for c in range(columns)],
                     title="Processing elements: upsets that end in silent corruption or a hang",
                     column_step=math.ceil(columns / 24), row_height=max(10.0, min(24.0, 320 / rows)))


def _time(results: Results) -> Svg:
    names, starts, rates = results.by_unit_and_time(_TIME_BINS)
    order = np.argsort(-np.nan_to_num(rates).sum(1))
    columns = [f"{int(first)}" for first in starts[:-1]]
    return heat_grid([[None if math.isnan(value) else float(value) for value in rates[unit]] for unit in order],
                     [names[unit] for unit in order], columns, title="Units over time", below="cycle of the upset",
                     column_step=max(1, len(columns) // 12))


def _bits(results: Results, width: int = 620, height: int = 300) -> Svg:
    """Return the vulnerability of each bit position."""
    rows = results.by_bit()[:_BITS]
    svg = Svg(width, height, "Bit positions")
    svg.text(14, 22, "Bit position in its register, from bit 0", size=14, bold=True)
    left, top, right, bottom = 54, 40, width - 12, height - 44
    highest = max((row.intervals["dangerous"].high for row in rows if row.rates["dangerous"] is not None and row.bits),
                  default=1.0) or 1.0
    for tick in range(5):
        y = bottom - (bottom - top) * tick / 4
        svg.line([(left, y), (right, y)], stroke="line", width=0.6)
        svg.text(left - 6, y + 4, f"{100 * highest * tick / 4:.3g} %", size=10.5, color="muted", anchor="end")
    step = (right - left) / len(rows)
    for place, row in enumerate(rows):
        rate = row.rates["dangerous"]
        if rate is None or not row.bits:
            continue
        x, tall = left + place * step, (bottom - top) * rate / highest
        low, high = row.intervals["dangerous"]
        svg.rect(x + 0.1 * step, bottom - tall, 0.8 * step, tall, fill="wait", tint=0.75, stroke="none",
                 tip=f"bit {place}: {share(rate, row.intervals['dangerous'])}, {row.bits:,} bits, {row.faults:,} faults")
        if step > 4:
            svg.line([(x + step / 2, bottom - (bottom - top) * end / highest) for end in (low, high)], stroke="ink", width=1)
        if place % max(1, math.ceil(len(rows) / 16)) == 0:
            svg.text(x + step / 2, bottom + 15, str(place), size=10.5, color="muted", anchor="middle")
    svg.text((left + right) / 2, height - 8, "bit (the first 64); lines are 95 % intervals of silent corruption or hang",
             size=11.5, anchor="middle")
    return svg


def _phases(results: Results) -> str:
    return table(("phase", "faults", "silent corruption, 95 %", "hang", "detected"), [
        [row.name, f"{row.faults:,}", share(row.rates["sdc"], row.intervals.get("sdc")), share(row.rates["hang"]),
         share(row.rates["detected"])] for row in results.by_phase()])


def _groups(results: Results) -> str:
    rows = sorted(results.by_group(), key=lambda row: -row.bits * (row.rates["dangerous"] or 0))
    whole = sum(row.bits * (row.rates["dangerous"] or 0) for row in rows) or 1.0
    text = table(("group", "bits", "faults", "silent corruption, 95 %", "hang", "detected", "corrected",
                  "of all that is dangerous"), [
        [row.name, f"{row.bits:,}", f"{row.faults:,}", share(row.rates["sdc"], row.intervals.get("sdc")),
         share(row.rates["hang"]),
         share(row.rates["detected"]), share(row.rates["corrected"]), share(row.bits * (row.rates["dangerous"] or 0) / whole)]
        for row in rows[:_GROUPS]])
    return text + (f"<p>{len(rows) - _GROUPS} more in result.json.</p>" if len(rows) > _GROUPS else "")


def _safety_card(iso: dict[str, Any]) -> str:
    unknown = f" No fault has hit {'; '.join(iso['not_simulated'])}: the worst is assumed." if iso["not_simulated"] else ""
    if iso["fit_per_mbit"] is None:
        rows = [[words, f"{part['spfm']:.3%}", f"{part['spfm_low']:.3%}", "–" if part["lfm"] is None else f"{part['lfm']:.3%}"]
                for words, part in (("flip-flops and gates", iso["logic"]), ("memories", iso["memory"]), ("together", iso))
                if part is not None]
        return card(table(("", "SPFM", "SPFM at least", "LFM"), rows), title="ISO 26262, if all bits fail as often",
                    note="There are no failure rates: how often such faults happen was not given (--fit)." + unknown)
    return card(_safety(iso), title="ISO 26262 by FIT per Mbit",
                note="FIT per Mbit is an input. ASIL by SPFM and PMHF at the point estimates"
                     + ("." if iso["lfm"] is not None else "; latent faults (LFM) have no meaning for upsets that pass.")
                     + unknown)


def _safety(iso: dict[str, Any]) -> str:
    def fit(part: dict[str, Any] | None) -> str:
        if part is None:
            return "–"
        low, high = part["residual_fit_ci95"]
        return f"{part['residual_fit']:.4g} [{low:.3g}, {high:.3g}]"

    rows = [[f"{row['fit_per_mbit']:g}", f"{row['total']['fit']:.4g}", fit(row["total"]), fit(row["logic"]), fit(row["memory"]),
             f"{row['total']['detected_fit']:.4g}", row["total"]["asil"] or "below B"] for row in iso["sweep"]]
    spfm = [[words, f"{part['fit']:.4g}", fit(part), f"{part['spfm']:.3%}", f"{part['spfm_low']:.3%}", part["asil"] or "below B",
             part["asil_claimed"] or "below B"]
            for words, part in (("flip-flops", iso["logic"]), ("memories", iso["memory"]), ("together", iso)) if part is not None]
    rates = iso["fit_per_mbit"]
    at = f"at {rates['logic']:g} (memories {rates['memory']:g})"
    return (table(("FIT per Mbit", "raw FIT", "residual FIT, 95 %", "of flip-flops", "of memories", "detected FIT", "ASIL"), rows)
            + table((at, "raw FIT", "residual FIT, 95 %", "SPFM", "SPFM at least", "ASIL", "ASIL by the intervals"), spfm))
