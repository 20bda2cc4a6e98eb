"""`heddle run`: a GEMM or a workload on the RTL, every output byte compared with the golden device."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_waves_file,
    config_from,
    console,
    log,
    print_json,
)
from flows.measure import Measurement, measure
from flows.native_sim import MemoryTiming
from flows.rtl_device import RtlDevice
from flows.verilated import VARIANTS
from hw.config import AcceleratorConfig
from sw.mapper import choose_plan
from sw.perf import MemoryModel
from sw.workloads import Workload, gemm_workload, workload_named

__all__ = ["add_arguments", "run", "shape_of"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gemm", metavar="M,N,K", help="one GEMM on random data: M rows of activations, N outputs, K reduction")
    what.add_argument("--workload", metavar="NAME", help="a workload of `heddle list`")
    parser.add_argument("--device", choices=("rtl", "golden"), default="rtl", help="what runs it (default: %(default)s)")
    parser.add_argument("--dataflow", choices=("ws", "os", "auto"), default="auto",
                        help="weight-stationary, output-stationary, or the faster of both for each GEMM (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of random operands and of stalls (default: %(default)s)")
    parser.add_argument("--text", help="input of a workload on real text, instead of its own")
    parser.add_argument("--memory-latency", type=int, default=32, metavar="CYCLES", help="of a read (default: %(default)s)")
    parser.add_argument("--memory-bandwidth", type=float, default=1.0, metavar="BEATS", help="per cycle, at most 1 (default: 1)")
    parser.add_argument("--stall", type=float, default=0.0, metavar="P",
                        help="probability with which each bus channel holds back in a cycle (default: 0)")
    parser.add_argument("--waves", type=Path, metavar="FILE", help="write waves of the first GEMM to FILE, .vcd or .fst")
    parser.add_argument("--build", choices=tuple(VARIANTS), default="fast-build",
                        help="; ".join(f"{name}: {variant.doc}" for name, variant in VARIANTS.items())
                        + " (default: %(default)s)")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Run it, print the table, and return whether everything matched."""
    config = config_from(args)
    workload = workload_named(args.workload) if args.workload else gemm_workload(*shape_of(args.gemm))
    timing = MemoryTiming(latency=args.memory_latency, bandwidth=args.memory_bandwidth, stall=args.stall, seed=args.seed)
    if args.dataflow not in ("auto", *config.dataflows):
        legal = ', '.join(config.dataflows)
        raise ValueError(f"--dataflow must be auto or one of {legal} for this config, not {args.dataflow!r}")
    memory = MemoryModel(latency=timing.latency, bandwidth=timing.bandwidth)
    for _, spec in workload.shapes:     # what cannot be mapped is refused before anything is built
        choose_plan(config, replace(spec, dataflow=args.dataflow), memory)
    if args.text is not None and workload.runner is None:
        raise ValueError(f"--text needs a workload on real text, such as minilm-layer; {workload.name} has random data")
    if args.waves is not None:
        if args.device == "golden":
            raise ValueError("--waves needs --device rtl: the golden device has no signals")
        check_waves_file(args.waves)
    found = _simulate(args, config, workload, timing, memory)
    answer = {"config": config.digest(), "workload": workload.name, "device": args.device, **found.to_json()}
    if args.json:
        print_json(answer)
    else:
        _show(args, found, answer)
    return found.match is not False


def shape_of(text: str) -> tuple[int, int, int]:
    """Return M, N and K of `--gemm`."""
    try:
        m, n, k = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--gemm must be M,N,K, three whole numbers, not {text!r}") from None
    return m, n, k


def _simulate(args: argparse.Namespace, config: AcceleratorConfig, workload: Workload, timing: MemoryTiming,
              memory: MemoryModel) -> Measurement:
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=log, transient=True,
                  disable=not log.is_terminal) as progress:
        task = progress.add_task("building the simulator", total=None)

        def started(name: str, cycles: int) -> None:
            progress.update(task, description=f"{name}, about {cycles:,} cycles", total=cycles, completed=0)

        device = None
        if args.device == "rtl":
            device = RtlDevice(config, timing=timing, variant=args.build, waves=args.waves,
                               progress=lambda cycles: progress.update(task, completed=cycles))
            _ = device.build
            if device.build_seconds > 5:
                log.print(f"simulator built in {device.build_seconds:.0f} s")
        return measure(workload, config, device, dataflow=args.dataflow, seed=args.seed, text=args.text,
                       memory=memory, started=started)


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
    for name, value in found.extra.items():
        console.print(f"{name}: {value:.6g}")
    for gemm in found.gemms:
        if gemm.replay:
            console.print(f"[red]{gemm.name} differs from the golden device[/]; see: heddle replay {escape(gemm.replay)}")
    if args.waves is not None:
        console.print(escape(f"waves of {found.gemms[0].name}: {args.waves}"))


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
