"""`heddle run`: a GEMM or a workload on the RTL, every output byte compared with the golden device."""

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    check_waves_file,
    config_from,
    console,
    engine_counts,
    log,
    output_folder,
    print_json,
)
from flows.commands.pim import run_gemm
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.commands.workload import Request, add_workload_arguments, progress_bar, request_from
from flows.measure import Measurement, measure
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    add_workload_arguments(parser)
    parser.add_argument("--device", choices=("rtl", "golden"), default="rtl", help="what runs it (default: %(default)s)")
    parser.add_argument("--channels", type=int, metavar="C", help="of a PIM preset: channels that share the outputs (default: 1)")
    parser.add_argument("--waves", type=Path, metavar="FILE", help="write waves of the first GEMM to FILE, .vcd or .fst, "
                        "and beside it a view of them for GTKWave, .gtkw")
    parser.add_argument("--plots", type=output_folder, metavar="FOLDER",
                        help="write roofline.svg and utilization.svg; made if missing")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Run it, print the table, and return whether everything matched."""
    pim = pim_config_from(args)
    if pim is not None:
        return run_gemm(args, pim)
    if args.channels is not None:
        raise ValueError("--channels is for a PIM; an array has none")
    config = config_from(args, legal=ARRAY_OR_PIM)
    request = request_from(args, config)
    if args.waves is not None:
        if args.device == "golden":
            raise ValueError("--waves needs --device rtl: the golden device has no signals")
        check_waves_file(args.waves)
    if args.plots is not None:
        if args.device == "golden":
            raise ValueError("--plots needs --device rtl: the golden device has no time")
        check_output_folder(args.plots, "--plots")
    found = _simulate(args, config, request)
    answer = {"config": config.digest(), "workload": request.workload.name, "device": args.device, **found.to_json()}
    if args.plots is not None:
        from flows.view.plots import measurement_plots, save_plots

        answer["plots"] = [str(file) for file in save_plots(measurement_plots(found, request.timing.bandwidth), args.plots)]
    if args.json:
        print_json(answer)
    else:
        _show(args, found, answer)
    return found.match is not False


def _simulate(args: argparse.Namespace, config: AcceleratorConfig, request: Request) -> Measurement:
    with progress_bar() as (started, cycles):
        device = None
        if args.device == "rtl":
            device = RtlDevice(config, timing=request.timing, waves=args.waves, progress=cycles)
            _ = device.build
            if device.build_seconds > 5:
                log.print(f"simulator built in {device.build_seconds:.0f} s")
            if args.waves is not None:
                from flows.view.waves import save_view

                save_view(args.waves, device.emission.verilog, device.emission.manifest)
        return measure(request.workload, config, device, dataflow=args.dataflow, seed=args.seed, text=args.text,
                       memory=request.memory, started=started)


def _show(args: argparse.Namespace, found: Measurement, answer: dict[str, Any]) -> None:
    """Print the table, and below it what holds for the whole run."""
    table = Table(title=escape(f"{answer['workload']} on {args.preset or args.config} ({args.device})"), title_justify="left",
                  box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    peak = found.config.peak_macs_per_cycle
    table.add_column("layer", no_wrap=True)
    for head in ("M×N×K", "cycles", "util", "KiB in", "KiB out", "match", "kHz"):
        table.add_column(head, justify="right", no_wrap=True)
    for gemm in found.gemms:
        shape = f"{gemm.m}×{gemm.n}×{gemm.k}" + (f" ×{gemm.batch}" if gemm.batch > 1 else "")
        table.add_row(gemm.name, shape, *_cells(gemm.cycles, gemm.macs / peak, gemm.counters), _verdict(gemm.match),
                      _rate(gemm.cycles, gemm.seconds), style="red" if gemm.match is False else None)
    table.add_section()
    table.add_row("total", "", *_cells(answer["cycles"], answer["macs"] / peak, answer["counters"]), _verdict(found.match),
                  _rate(answer["cycles"], answer["run_seconds"]), style="bold")
    console.print(table)
    console.print("util: useful MACs / cycles / peak, from doorbell to interrupt")
    console.print("match: memory against the golden device; kHz: thousand simulated cycles/s")
    for counter, (count,) in engine_counts(found.config, answer["counters"]):
        console.print(f"{counter.name}: {count:,} ({counter.doc})")
    for name, value in found.extra.items():
        console.print(f"{name}: {value:.6g}")
    for gemm in found.gemms:
        if gemm.replay:
            console.print(f"[red]{gemm.name} differs from the golden device[/]; see: heddle replay {escape(gemm.replay)}")
    if args.waves is not None:
        console.print(escape(f"waves of {found.gemms[0].name}: {args.waves}; for GTKWave: {args.waves.with_suffix('.gtkw')}"))
    for file in answer.get("plots", ()):
        console.print(file, markup=False, soft_wrap=True)


def _cells(cycles: int, ideal: float, counters: dict[str, int]) -> tuple[str, ...]:
    """Return cycles, utilization, KiB read, KiB written; a dash for what the golden device does not know."""
    kib_out = f"{counters['bytes_written'] / 1024:,.1f}"
    if not cycles:
        return "–", "–", "–", kib_out
    return f"{cycles:,}", f"{ideal / cycles:.1%}", f"{counters['bytes_read'] / 1024:,.1f}", kib_out


def _rate(cycles: int, seconds: float) -> str:
    return f"{cycles / seconds / 1000:,.0f}" if cycles else "–"


def _verdict(match: bool | None) -> str:
    return {True: "exact", False: "DIFFERS", None: "–"}[match]
