"""The tables of `heddle inject`."""

import argparse
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import console

__all__ = ["fault_table", "percent", "show_campaign", "show_fault", "show_safety", "title_of"]

_GROUPS_SHOWN = 12


def title_of(args: argparse.Namespace, answer: dict[str, Any]) -> str:
    """Return what was injected into, for people."""
    on = args.preset or (args.config.stem if args.config is not None else None)
    return f"{answer['target']} on {on}" if on else str(answer["target"])


def show_fault(answer: dict[str, Any]) -> None:
    """Print one fault and what became of it."""
    fault = answer["fault"]
    lasts = f" for {fault['duration']} cycles" if fault["duration"] else ""
    console.print(escape(f"fault {answer['index']} ({answer['stratum']}): {fault['kind']} of {fault['name']}, "
                         f"mask 0x{fault['mask']:x}, in cycle {fault['cycle']}{lasts}"))
    console.print(escape(f"outcome: {answer['outcome'].replace('_', ' ')}"), style="bold")
    for key, words in (("first_difference", "first wrong in cycle"), ("first_flag", "flagged in cycle")):
        if answer[key] >= 0:
            console.print(f"{words} {answer[key]}")
    if answer["wrong_words"]:
        console.print(f"{answer['wrong_words']} wrong words, largest error {answer['largest_error']}, "
                      f"signature {answer['signature']}")
    if answer["masked_by_analysis"]:
        console.print("the access trace proves that it is masked: a campaign would not simulate it")
    if fault["source"]:
        console.print(escape(fault["source"]), style="dim")


def percent(rate: float | None, interval: Any = None) -> str:
    """Return a share in percent with its interval."""
    if rate is None:
        return "–"
    return f"{rate:.3%}" if interval is None else f"{rate:.3%}  [{interval[0]:.3%}, {interval[1]:.3%}]"


def show_campaign(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    """Print the tables of a campaign."""
    total, counts = answer["total"], answer["outcomes"]
    title = f"{title_of(args, answer)}: {answer['plan']['kind']}, {answer['faults']:,} faults, engine {answer['engine']}"
    table = fault_table(escape(title),
                   "outcome", "faults", "share of all faults, 95 %")
    for name, key in (("masked", "effect"), ("corrected", "corrected"), ("detected", "detected"), ("silent corruption", "sdc"),
                      ("hang", "hang")):
        rate, interval = total["avf"][key], total["ci95"][key]
        if key == "effect":
            rate, interval = 1 - rate, (1 - interval[1], 1 - interval[0])
        count = counts[{"silent corruption": "sdc"}.get(name, name)]
        table.add_row(name, f"{count:,}", percent(rate, interval), style="bold" if key == "sdc" else None)
    due, hit = answer["subclasses"]["detected"], "pattern" if answer["plan"]["kind"] == "mbu" else "bit"
    table.add_section()
    table.add_row("simulated", f"{answer['faults']:,}", f"of {answer['population']['faults']:,} ({hit}, cycle) pairs")
    table.add_row("masked by analysis", f"{answer['masked_by_analysis']:,}",
                  f"drawn; {1 - answer['population']['live']:.2%} of all pairs")
    console.print(table)
    console.print(f"detected: {due['due']:,} with a wrong result, {due['detected_benign']:,} with the right one")
    if silent := answer["subclasses"].get("sdc"):
        console.print(f"silent corruption: {silent['critical']:,} change the largest element of a row, "
                      f"{silent['tolerable']:,} do not")
    for title, rows, most in (("unit", answer["by_unit"], 99), ("register group", answer["by_group"], _GROUPS_SHOWN)):
        _show_rows(title, rows, most)
    show_safety(answer)
    if answer["faults_per_second"]:
        console.print(f"{answer['faults_per_second']:,.0f} faults/s, {answer['faults_per_cpu_second'] or 0:,.0f} per second of a "
                      "processor")
    for look in answer["looks"]:
        console.print(f"look {look['look']}: {look['faults']:,} faults, widest ± {look['widest']:.4f} at "
                      f"{look['confidence']:.3%} ({escape(look['stratum'])})", style="dim")
    if answer["looks"]:
        console.print(f"intervals are of {answer['confidence']:.3%}, those of the last look: 95 % after all of them", style="dim")
    for file in answer["files"]:
        console.print(file, markup=False, soft_wrap=True)


def _show_rows(title: str, rows: dict[str, Any], most: int) -> None:
    further = [name for name in ("detected", "corrected", "hang") if any(row["avf"][name] for row in rows.values())]
    table = fault_table("", title, "bits", "faults", "silent %, 95 %", *(f"{name} %" for name in further))
    weight = {name: row["bits"] * (row["avf"]["dangerous"] or 0) for name, row in rows.items()}
    shown = sorted(rows, key=lambda name: -weight[name])[:most]
    for name in shown:
        row = rows[name]
        table.add_row(escape(name.removeprefix("dut.")), f"{row['bits']:,}", f"{row['faults']:,}",
                      _percent(row["avf"]["sdc"], row["ci95"].get("sdc")), *(_percent(row["avf"][key]) for key in further))
    console.print(table)
    if len(rows) > len(shown):
        console.print(f"{len(rows) - len(shown)} more, with less silent corruption", style="dim")


def _percent(rate: float | None, interval: Any = None) -> str:
    if rate is None:
        return "–"
    return f"{100 * rate:.2f}" + ("" if interval is None else f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]")


def show_safety(answer: dict[str, Any]) -> None:
    """Print the figures of ISO 26262."""
    iso = answer["iso26262"]
    if iso["not_simulated"]:
        console.print(escape(f"no fault has hit {'; '.join(iso['not_simulated'])}: all of their upsets count as dangerous below"))
    if iso["fit_per_mbit"] is None:
        lfm = "" if iso["lfm"] is None else f"; LFM {iso['lfm']:.3%}"
        console.print(f"ISO 26262: if all bits fail as often, SPFM {iso['spfm']:.3%}, at least {iso['spfm_low']:.3%}{lfm}; "
                      f"no failure rates: --fit says how often a {answer['plan']['kind']} happens")
        return
    both = all(iso["sweep"][0][part] is not None for part in ("logic", "memory"))
    parts = ("logic", "memory", "total") if both else ("total",)
    heads = ("flip-flops", "memories", "all, 95 %") if both else ("residual, 95 %",)
    table = fault_table("ISO 26262: residual FIT", "FIT/Mbit", "raw", *heads, "ASIL")
    for row in iso["sweep"]:
        table.add_row(f"{row['fit_per_mbit']:g}", f"{row['total']['fit']:.4g}",
                      *(_fit(row[part]) if part == "total" else f"{row[part]['residual_fit']:.3g}" for part in parts),
                      row["total"]["asil"] or "–")
    console.print(table)
    for part, words in (("logic", "flip-flops"), ("memory", "memories")):
        if both:
            console.print(f"{words} alone: SPFM {iso[part]['spfm']:.3%}, at least {iso[part]['spfm_low']:.3%}; ASIL "
                          f"{iso[part]['asil'] or 'below B'}")
    rates = iso["fit_per_mbit"]
    console.print(f"at {rates['logic']:g} FIT/Mbit (memories {rates['memory']:g}): SPFM {iso['spfm']:.3%}, at least "
                  f"{iso['spfm_low']:.3%}; ASIL {iso['asil'] or 'below B'}, by the intervals {iso['asil_claimed'] or 'below B'}"
                  + ("" if iso["lfm"] is None else f"; LFM {iso['lfm']:.3%}"))


def _fit(part: dict[str, Any]) -> str:
    low, high = part["residual_fit_ci95"]
    return f"{part['residual_fit']:.3g} [{low:.3g}, {high:.3g}]"


def fault_table(title: str, *columns: str) -> Table:
    """Return a table whose first column is text."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(columns[0], overflow="fold", min_width=min(20, len(columns[0])))
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table
