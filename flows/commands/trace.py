"""`heddle trace`: what each unit does in every cycle of a run, as tables, a page and a trace file."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    config_from,
    console,
    log,
    output_folder,
    print_json,
)
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.commands.workload import add_workload_arguments, progress_bar, request_from
from flows.measure import Measurement, measure
from flows.view.page import trace_page
from flows.view.perfetto import perfetto_trace
from flows.view.plots import measurement_plots, unit_bars
from flows.view.timeline import Timeline
from flows.view.traced import TracedDevice

__all__ = ["PAGE", "TRACE", "add_arguments", "run", "run_json", "show_timelines"]

PAGE, TRACE = "trace.html", "trace.json"
_WAITS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    add_workload_arguments(parser)
    parser.add_argument("--channels", type=int, metavar="C", help="of a PIM preset: channels that share the outputs (default: 1)")
    parser.add_argument("-o", "--output", type=output_folder, metavar="FOLDER",
                        help=f"folder for {PAGE}, a page for a browser, and {TRACE}, for ui.perfetto.dev; made if missing")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Simulate, write the files, print the tables, and return whether every byte matched."""
    pim = pim_config_from(args)
    if pim is not None:
        from flows.commands.trace_pim import trace_pim

        return trace_pim(args, pim)
    if args.channels is not None:
        raise ValueError("--channels is for a PIM; an array has none")
    config = config_from(args, legal=ARRAY_OR_PIM)
    request = request_from(args, config)
    if args.output is not None:
        check_output_folder(args.output, "-o")
    with progress_bar() as (started, cycles):
        device = TracedDevice(config, timing=request.timing, progress=cycles)
        _ = device.build
        if device.build_seconds > 5:
            log.print(f"simulator built in {device.build_seconds:.0f} s")
        found = measure(request.workload, config, device, dataflow=args.dataflow, seed=args.seed, text=args.text,
                        memory=request.memory, started=started)
    timelines = device.timelines
    name = f"{request.workload.name} on {args.preset or args.config.stem}"
    measured = found.to_json()
    answer = {"config": config.digest(), "workload": request.workload.name,
              **{key: measured[key] for key in ("match", "cycles", "macs", "peak_macs_per_cycle", "utilization", "counters")},
              "runs": [run_json(timeline) for timeline in timelines], "files": []}
    if args.output is not None:
        answer["files"] = _write(args.output, name, timelines, found, request.timing.bandwidth)
    if args.json:
        print_json(answer)
    else:
        _show(name, timelines, answer)
    return found.match is not False


def run_json(timeline: Timeline) -> dict[str, Any]:
    """Return a run as plain JSON types: shares of its units, longest waits."""
    waits = [{"unit": wait.unit, "command": wait.index, "first": wait.first, "cycles": wait.cycles,
              "semaphores": list(wait.semaphores), "signalled_by": wait.cause} for wait in timeline.longest_waits(_WAITS)]
    return {"name": timeline.name, "cycles": timeline.cycles, "units": timeline.summary(), "longest_waits": waits}


def _write(folder: Path, name: str, timelines: list[Timeline], found: Measurement, bandwidth: float) -> list[str]:
    answer, config = found.to_json(), found.config
    facts = {"config": f"{config.digest()}, {config.rows}×{config.columns} {config.pe}", "cycles": f"{answer['cycles']:,}",
             "MACs": f"{answer['macs']:,}", "utilization": f"{answer['utilization']:.1%}",
             "bytes read": f"{answer['bytes_read']:,}", "bytes written": f"{answer['bytes_written']:,}",
             "against the golden device": "exact" if found.match else "DIFFERS"}
    roof, utilization = measurement_plots(found, bandwidth).values()
    plots = [[roof], [utilization, unit_bars(timelines)]]
    (folder / PAGE).write_text(trace_page(timelines, title=name, facts=facts, plots=plots))
    (folder / TRACE).write_text(json.dumps(perfetto_trace(timelines, name)) + "\n")
    return [str(folder / PAGE), str(folder / TRACE)]


def _show(name: str, timelines: list[Timeline], answer: dict[str, Any]) -> None:
    """Print all runs, and below them what holds for all."""
    show_timelines(name, timelines, answer["runs"])
    console.print("busy: has a command; active: a step, beat or write in that cycle")
    console.print("wait: idle while the queue's head waits; all are shares of the cycles of the run")
    if not answer["match"]:
        console.print("[red]the memory differs from the golden device's[/]")
    for file in answer["files"]:
        console.print(file, markup=False, soft_wrap=True)


def show_timelines(name: str, timelines: list[Timeline], runs: list[dict[str, Any]]) -> None:
    """Print a table of the units for each run, and where the queues waited longest."""
    for timeline, run in zip(timelines, runs, strict=True):
        table = Table(title=escape(f"{name}: {timeline.name}, {timeline.cycles:,} cycles"), title_justify="left",
                      box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("unit", no_wrap=True)
        for head in ("commands", "busy", "active", "wait", "idle", "first", "last"):
            table.add_column(head, justify="right", no_wrap=True)
        for unit, row in run["units"].items():
            ends = ["" if row.get(end) is None else f"{row[end]:,}" for end in ("first", "last")]
            table.add_row(unit, f"{row['commands']:,}" if "commands" in row else "", f"{row['busy']:.1%}",
                          f"{row['active']:.1%}" if "active" in row else "", f"{row['wait']:.1%}", f"{row['idle']:.1%}", *ends)
        console.print(table)
        if run["longest_waits"]:
            console.print(_waits_table(run["longest_waits"], "its turn" if timeline.sequencer else "a shared entry"))


def _waits_table(waits: list[dict[str, Any]], other: str) -> Table:
    table = Table(title="longest waits of a queue's head", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  padding=(0, 1, 0, 0))
    table.add_column("queue", no_wrap=True)
    for head in ("command", "from", "cycles", "for"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("signalled by")
    for wait in waits:
        names = " ".join(f"s{i}" for i in wait["semaphores"]) or other
        table.add_row(wait["unit"], f"{wait['command']:,}", f"{wait['first']:,}", f"{wait['cycles']:,}", names,
                      escape(wait["signalled_by"]))
    return table
