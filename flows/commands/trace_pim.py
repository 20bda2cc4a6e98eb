"""`heddle trace pim-…`: what queues, DRAM and multipliers of a PIM's channels do in every cycle of a GEMM."""

import argparse
import json
from typing import Any, cast

from flows.commands.common import check_output_folder, console, print_json
from flows.commands.pim import gemm_answer
from flows.commands.trace import PAGE, TRACE, run_json, show_timelines
from flows.pim.rtl_device import RtlPimSession
from flows.view.page import trace_page
from flows.view.perfetto import perfetto_trace
from flows.view.pim_timeline import pim_timeline
from flows.view.plots import unit_bars
from flows.view.roofline import utilization_bars
from flows.view.svg import Svg
from flows.view.timeline import Timeline
from hw.pim.config import PimConfig
from sw.pim.program import PimProgram

__all__ = ["trace_pim"]

_LEGEND = (
    ("fetch", 0.35, "I/O: a command, host words below"), ("matrix", 0.35, "compute: a command, products below"),
    ("matrix", 0.9, "line below a queue: commands that are not done"),
    ("wait", 0.4, "its first command waits for a shared entry"),
    ("load", 0.45, "bursts read; no credit"), ("store", 0.45, "bursts written"), ("memory", 0.45, "an open row"),
    ("sequencer", 0.45, "a refresh"))
_STALLS = {"row": "wait", "refresh": "sequencer", "credit": "load", "hazard": "fetch"}


def trace_pim(args: argparse.Namespace, config: PimConfig) -> bool:
    """Simulate, write the files, print the tables, and return whether every result matched."""
    if args.output is not None:
        check_output_folder(args.output, "-o")
    timelines: list[Timeline] = []

    def observe(session: RtlPimSession, program: PimProgram) -> None:
        for channel, run in session.ended.items():
            words = cast("list[int]", program.lists[channel])
            timelines.append(pim_timeline(config, words, run.events, run.cycles, f"channel {channel}"))

    asked = argparse.Namespace(**vars(args), device="rtl", waves=None, plots=None)
    found = gemm_answer(asked, config, observe=observe)
    name = f"{found['workload']} on {args.preset or args.config.stem}"
    kept = ("config", "workload", "match", "cycles", "law_cycles", "law_cycles_refreshed", "macs", "peak_macs_per_cycle",
            "utilization", "counters")
    answer: dict[str, Any] = {**{key: found[key] for key in kept}, "runs": [run_json(timeline) for timeline in timelines],
                              "files": []}
    if args.output is not None:
        facts = {"config": f"{config.digest()}, {config.lanes} lanes × {config.rows_x} rows", "cycles": f"{found['cycles']:,}",
                 "law": f"{found['law_cycles']:,.0f}, refreshed {found['law_cycles_refreshed']:,.0f}",
                 "MACs": f"{found['macs']:,}", "utilization": f"{found['utilization']:.1%}",
                 "against the golden device": "exact" if found["match"] else "DIFFERS"}
        page = trace_page(timelines, title=name, facts=facts, plots=[[_cycle_bars(timelines), unit_bars(timelines)]],
                          legend=_LEGEND)
        (args.output / PAGE).write_text(page)
        (args.output / TRACE).write_text(json.dumps(perfetto_trace(timelines, name)) + "\n")
        answer["files"] = [str(args.output / PAGE), str(args.output / TRACE)]
    if args.json:
        print_json(answer)
        return bool(found["match"])
    show_timelines(name, timelines, answer["runs"])
    for timeline in timelines:
        stalls = ", ".join(f"{why} {cycles:,}" for why, cycles in _stalls(timeline).items() if cycles) or "none"
        console.print(f"{timeline.name}: products in {timeline.units['compute'].active_cycles:,} of {timeline.cycles:,} cycles; "
                      f"without them for: {stalls}")
    console.print("busy: has a command; active: a host word, or products")
    console.print("wait: idle while the first command waits for a shared entry; all are shares of the cycles of the run")
    if not found["match"]:
        console.print("[red]the results differ from the golden device's[/]")
    for file in answer["files"]:
        console.print(file, markup=False, soft_wrap=True)
    return bool(found["match"])


def _stalls(timeline: Timeline) -> dict[str, int]:
    """Return why → cycles without a product."""
    return {why: sum(span.cycles for span in timeline.lanes["no product for"] if span.state == why) for why in _STALLS}


def _cycle_bars(timelines: list[Timeline]) -> Svg:
    rows = []
    for timeline in timelines:
        shares = [("matrix", timeline.units["compute"].active_cycles / timeline.cycles)]
        shares += [(_STALLS[why], cycles / timeline.cycles) for why, cycles in _stalls(timeline).items()]
        rows.append((timeline.name, shares))
    return utilization_bars(rows, title="Cycles with products; none for rows, refreshes, credits, hazards")
