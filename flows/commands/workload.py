"""What the commands that simulate share: which work is meant, and how the memory behaves."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.commands.common import log
from flows.native_sim import MemoryTiming
from hw.config import AcceleratorConfig
from sw.engines import known_weights
from sw.mapper import choose_plan
from sw.perf import MemoryModel
from sw.workloads import Workload, gemm_workload, workload_named

__all__ = ["Request", "add_memory_arguments", "add_workload_arguments", "progress_bar", "request_from", "shape_of", "timing_from"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to run: a workload, the simulated memory's behaviour, and what the mapper takes it for."""

    workload: Workload
    timing: MemoryTiming
    memory: MemoryModel


def add_workload_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of work, its data, and the memory's behaviour."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gemm", metavar="M,N,K", help="one GEMM on random data: M rows of activations, N outputs, K reduction")
    what.add_argument("--workload", metavar="NAME", help="a workload of `heddle list`")
    parser.add_argument("--dataflow", choices=("ws", "os", "auto"), default="auto",
                        help="weight-stationary, output-stationary, or the faster of both for each GEMM (default: %(default)s)")
    parser.add_argument("--weights", metavar="FORMAT",
                        help="format of constant weights, one of the config's (default: its first packed one, if it has one)")
    parser.add_argument("--seed", type=int, default=0, help="of random operands and of stalls (default: %(default)s)")
    parser.add_argument("--text", help="input of a workload on real text, instead of its own")
    add_memory_arguments(parser)


def add_memory_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the behaviour of the simulated memory."""
    parser.add_argument("--memory-latency", type=int, default=32, metavar="CYCLES", help="of a read (default: %(default)s)")
    parser.add_argument("--memory-bandwidth", type=float, default=1.0, metavar="BEATS", help="per cycle, at most 1 (default: 1)")
    parser.add_argument("--stall", type=float, default=0.0, metavar="P",
                        help="probability with which each bus channel holds back in a cycle (default: 0)")


def timing_from(args: argparse.Namespace) -> MemoryTiming:
    """Return the memory's behaviour that the arguments ask for.

    Raises
    ------
    ValueError
        If it cannot be.
    """
    return MemoryTiming(latency=args.memory_latency, bandwidth=args.memory_bandwidth, stall=args.stall, seed=args.seed)


def request_from(args: argparse.Namespace, config: AcceleratorConfig) -> Request:
    """Return what the arguments ask for.

    Raises
    ------
    ValueError
        If there is no such work, it cannot be mapped, or an argument does not fit it; before anything is built.
    """
    workload = workload_named(args.workload) if args.workload else gemm_workload(*shape_of(args.gemm))
    timing = timing_from(args)
    if args.dataflow not in ("auto", *config.dataflows):
        legal = ', '.join(config.dataflows)
        raise ValueError(f"--dataflow must be auto or one of {legal} for this config, not {args.dataflow!r}")
    if args.weights is not None:
        known = known_weights(config)
        if args.weights not in known:
            raise ValueError(f"--weights must be one of {', '.join(known)} for this config, not {args.weights!r}")
        if workload.runner is not None:
            raise ValueError(f"--weights needs a workload on random data; {workload.name} brings its own")
        workload = replace(workload, weights=args.weights)
    memory = MemoryModel(latency=timing.latency, bandwidth=timing.bandwidth)
    for _, spec in workload.specs(config):
        choose_plan(config, replace(spec, dataflow=args.dataflow), memory)
    if args.text is not None and workload.runner is None:
        raise ValueError(f"--text needs a workload on real text, such as minilm-layer; {workload.name} has random data")
    if args.text == "":
        raise ValueError("--text must have at least one character, not ''")
    return Request(workload=workload, timing=timing, memory=memory)


def shape_of(text: str) -> tuple[int, int, int]:
    """Return M, N and K of `--gemm`."""
    try:
        m, n, k = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--gemm must be M,N,K, three whole numbers, not {text!r}") from None
    return m, n, k


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[[str, int], None], Callable[[int], None]]]:
    """Show a progress bar on a terminal; yields what to call when a GEMM starts and when cycles have passed."""
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=log, transient=True,
                  disable=not log.is_terminal) as progress:
        task = progress.add_task("building the simulator", total=None)

        def started(name: str, cycles: int) -> None:
            progress.update(task, description=f"{name}, about {cycles:,} cycles", total=cycles, completed=0)

        yield started, lambda cycles: progress.update(task, completed=cycles)
