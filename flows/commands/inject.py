"""`heddle inject`: faults in every kind of state of a design while it works, and what becomes of them."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.cache import cache_root, key_of
from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    config_from,
    log,
    output_folder,
    print_json,
)
from flows.commands.inject_model import add_model_arguments, check_no_model_arguments, run_model
from flows.commands.inject_tables import show_campaign, show_fault, title_of
from flows.commands.workload import shape_of
from flows.fault.campaign.campaign import Campaign
from flows.fault.campaign.job import DURATIONS, ENGINES, Job, open_job
from flows.fault.campaign.plan import METHODS, Plan, boosts_from, kind_named
from flows.fault.campaign.results import Results
from flows.fault.campaign.store import Store, parquet_library
from flows.fault.figures.iso26262 import DEFAULT_FIT, Rates
from flows.fault.figures.statistics import STRATUM_FLOOR, Looks, beta_quantile
from flows.fault.netlist.sites import KINDS
from flows.fault.records import UPSETS, Kind
from flows.fault.reports.campaign_report import campaign_page
from flows.fault.reports.criterion import TopOne
from flows.fault.reports.summary import describe_fault, summary
from flows.fault.targets.gemm_run import GemmRun, gemm_run
from flows.fault.targets.target import Target
from flows.fault.targets.workloads import array_target, program_target
from hw.config import AcceleratorConfig
from sw.workloads import gemm_workload, workload_named

__all__ = [
    "RESULT_FILE", "add_arguments", "add_fault_arguments", "add_work_arguments", "campaign_folder", "check_libraries",
    "check_workers", "run", "run_campaign", "run_from", "upset_rates",
]

MOST_WORKERS = 4
"""Processes for each processor."""
RESULT_FILE, REPORT_FILE = "result.json", "report.html"


def add_work_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the design does while it is hit."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gemm", metavar="M,N,K", help="one GEMM on random data")
    what.add_argument("--workload", metavar="NAME", help="one GEMM of a workload of `heddle list`; see --layer")
    parser.add_argument("--layer", metavar="NAME",
                        help="with --workload: which of its GEMMs, by name or number (default: the first)")
    parser.add_argument("--dataflow", choices=("ws", "os", "auto"), help="of the GEMM (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults drawn and of random operands (default: %(default)s)")


def add_fault_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many faults of what kind go where, and who simulates them."""
    parser.add_argument("--sites", default="*", metavar="GLOB",
                        help="paths of registers and memories to hit, such as 'dut.engine.*' (default: all)")
    parser.add_argument("--engine", choices=tuple(ENGINES), default=next(iter(ENGINES)),
                        help="what simulates (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that simulate (default: %(default)s)")
    parser.add_argument("--fit", type=float, metavar="F",
                        help="faults of this kind per Mbit of flip-flops and 10⁹ hours; an input, not a result (default: 1000 of "
                             "upsets; without it, other kinds get no failure rates)")
    parser.add_argument("--memory-fit", type=float, metavar="F", help="the same of memories (default: as --fit)")
    parser.add_argument("-o", "--output", type=output_folder, metavar="FOLDER",
                        help=f"folder for faults/*.parquet, {RESULT_FILE} and {REPORT_FILE} (default: one of the cache)")
    parser.add_argument("--resume", action="store_true", help="go on with the campaign that is in the folder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    add_work_arguments(parser)
    for group in parser._mutually_exclusive_groups:
        group.add_argument("--array", metavar="RxC",
                           help="a weight-stationary array alone, on two random tiles; without a PRESET")
        add_model_arguments(parser, group)
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--faults", type=int, metavar="N", help="simulate N faults (default: 1000)")
    much.add_argument("--ci", type=float, metavar="W", help="simulate until rates are known to ± W with 95 %% confidence")
    much.add_argument("--exhaustive", action="store_true", help="simulate every bit in every cycle")
    much.add_argument("--index", type=int, metavar="I", help="simulate fault I of the plan alone and tell what becomes of it")
    parser.add_argument("--kind", default="seu", metavar="KIND",
                        help=f"{', '.join(kind.name.lower() for kind in Kind)} (default: %(default)s)")
    parser.add_argument("--duration", type=int, metavar="CYCLES",
                        help="of a set, bus (default: 1), intermittent (default: 4) or stuck (default: for ever) fault")
    parser.add_argument("--adjacent", type=int, default=0, metavar="BITS", help="of an mbu: 2, 3 or 4 (default: any of these)")
    parser.add_argument("--method", choices=METHODS[:3], default="uniform", help="how faults are drawn (default: %(default)s)")
    parser.add_argument("--boost", action="append", default=[], metavar="GLOB=FACTOR",
                        help="draw strata that match so much more often, with --method importance; may be given several times")
    parser.add_argument("--cells", metavar="KINDS",
                        help=f"what to hit: some of {', '.join(KINDS)} (default: what the kind of fault hits)")
    add_fault_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Simulate, print the tables, write the files."""
    if args.model is not None:
        return run_model(args)
    check_no_model_arguments(args)
    plan = _plan_from(args)
    rates = _rates_from(args, plan.kind)
    if args.faults is not None and args.faults < 1:
        raise ValueError(f"--faults must be at least 1, not {args.faults}")
    looks = Looks(target=args.ci) if args.ci is not None else None
    check_workers(args.workers)
    cells = cells_from(args)
    check_libraries()
    target, criterion = _array_or_program(args)
    if args.output is not None:
        check_output_folder(args.output, "-o")
    with log.status("simulator"):
        job = open_job(target, plan, engine=args.engine, glob=args.sites, cells=cells)
    if args.index is not None:
        answer = describe_fault(job, args.index)
        print_json(answer) if args.json else show_fault(answer)
        return True
    answer, _ = run_campaign(args, job, rates, faults=args.faults, looks=looks, exhaustive=args.exhaustive,
                             criterion=criterion)
    print_json(answer) if args.json else show_campaign(args, answer)
    return True


def upset_rates(args: argparse.Namespace) -> Rates:
    """Return how often upsets happen, or whatever `--fit` was given for."""
    logic = DEFAULT_FIT if args.fit is None else args.fit
    return Rates(logic=logic, memory=logic if args.memory_fit is None else args.memory_fit)


def _rates_from(args: argparse.Namespace, kind: Kind) -> Rates | None:
    """Return how often faults of a kind happen, None where nobody has said so."""
    if args.fit is not None or kind in UPSETS:
        return upset_rates(args)
    if args.memory_fit is not None:
        raise ValueError(f"--memory-fit needs --fit with --kind {kind.name.lower()}")
    return None


def check_workers(workers: int) -> None:
    """Refuse numbers of processes that there cannot be, or that would only get into each other's way."""
    most = MOST_WORKERS * (os.cpu_count() or 1)
    if not 1 <= workers <= most:
        raise ValueError(f"--workers must be between 1 and {most} on this machine, {MOST_WORKERS} a processor, not {workers}")


def check_libraries() -> None:
    """Refuse to begin what would end without a library for its results.

    Raises
    ------
    ToolError
        If pyarrow or scipy is missing.
    """
    parquet_library()
    beta_quantile()


def cells_from(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Return what `--cells` says."""
    if args.cells is None:
        return None
    cells = tuple(args.cells.split(","))
    for cell in cells:
        if cell not in KINDS:
            raise ValueError(f"--cells must be some of {', '.join(KINDS)}, not {cell!r}")
    return cells


def _plan_from(args: argparse.Namespace) -> Plan:
    kind = kind_named(args.kind)
    duration = args.duration if args.duration is not None else DURATIONS.get(kind, 0)
    if args.exhaustive and args.method != METHODS[0]:
        raise ValueError(f"--method cannot go with --exhaustive, which draws everything, not {args.method}")
    if args.index is not None and args.resume:
        raise ValueError("--resume cannot go with --index, which keeps nothing")
    method = "exhaustive" if args.exhaustive else args.method
    return Plan(method=method, kind=kind, seed=args.seed, duration=duration, adjacent=args.adjacent,
                boosts=boosts_from(args.boost))


def _array_or_program(args: argparse.Namespace) -> tuple[Target, TopOne | None]:
    if args.array is None:
        config = config_from(args)
        work = run_from(args, config)
        return program_target(config, work.program, work.memory, work.args), TopOne(config,
                                                                                    work) if args.engine == "lanes" else None
    if args.preset is not None or args.config is not None or args.changes:
        raise ValueError("--array stands alone: it has no PRESET, --config or --set")
    for name in ("layer", "dataflow"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} cannot go with --array")
    try:
        rows, columns = (int(part) for part in args.array.split("x"))
    except ValueError:
        raise ValueError(f"--array must be RxC, two whole numbers, not {args.array!r}") from None
    return array_target(rows, columns, seed=args.seed), None


def run_from(args: argparse.Namespace, config: AcceleratorConfig) -> GemmRun:
    """Return the GEMM that the arguments name, compiled for a config."""
    workload = workload_named(args.workload) if args.workload else gemm_workload(*shape_of(args.gemm))
    if args.layer is not None and not args.workload:
        raise ValueError("--layer needs --workload")
    layer = args.layer or "0"
    dataflow = args.dataflow or "auto"
    if dataflow not in ("auto", *config.dataflows):
        legal = ", ".join(config.dataflows)
        raise ValueError(f"--dataflow must be auto or one of {legal} for this config, not {dataflow!r}")
    return gemm_run(config, workload, gemm=int(layer) if layer.isdecimal() else layer, seed=args.seed, dataflow=dataflow)


def campaign_folder(args: argparse.Namespace, job: Job) -> Path:
    """Return where a campaign is kept."""
    if args.output is not None:
        return Path(args.output)
    return cache_root() / "campaigns" / key_of(job.identity)


def run_campaign(args: argparse.Namespace, job: Job, rates: Rates | None, *, faults: int | None = None,
                 looks: Looks | None = None, exhaustive: bool = False, replace: bool | None = None,
                 floor: int = STRATUM_FLOOR, criterion: TopOne | None = None) -> tuple[dict[str, Any], Results]:
    """Run a campaign in its folder with a progress bar; write result and report; return the figures and the results."""
    folder = campaign_folder(args, job)
    with Store(folder, job.identity, resume=args.resume, replace=args.output is None if replace is None else replace) as store:
        try:
            with _progress() as progress:
                campaign = Campaign(engine=job.engine, words=job.words, lifetimes=job.lifetimes, sampler=job.sampler, store=store,
                                    factory=job.factory, workers=args.workers, floor=floor, rates=rates or Rates(),
                                    progress=progress)
                if exhaustive:
                    results = campaign.exhaust()
                else:
                    results = campaign.until(looks) if looks is not None else campaign.sample(faults or 1000)
        except KeyboardInterrupt:
            log.print(escape(f"faults so far are kept in {folder}: the same command goes on with --resume"))
            raise
        answer = summary(job, campaign, results, rates, criterion)
        answer["files"] = [str(folder / RESULT_FILE), str(folder / REPORT_FILE)]
        answer["folder"] = str(folder)
        store.write_json(RESULT_FILE, answer)
        store.write_text(REPORT_FILE, campaign_page(job, results, answer, title=title_of(args, answer)))
    return answer, results


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show a progress bar on a terminal; yields what to call with the faults done and those asked for."""
    with Progress(TextColumn("{task.completed:,.0f} of {task.total:,.0f} faults"), BarColumn(), TextColumn("{task.fields[rate]}"),
                  TimeElapsedColumn(), console=log, transient=True, disable=not log.is_terminal) as progress:
        task = progress.add_task("faults", total=1, rate="")

        def tell(done: int, asked: int) -> None:
            elapsed = progress.tasks[0].elapsed
            progress.update(task, completed=done, total=asked, rate=f"{done / elapsed:,.0f} faults/s" if elapsed else "")

        yield tell
