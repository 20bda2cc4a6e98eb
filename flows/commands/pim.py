"""`heddle run pim-…`: a GEMM on channels of a PIM, golden and RTL, cycles beside the law."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import check_waves_file, console, print_json
from flows.commands.pim_config import refuse_options_of_arrays
from flows.commands.workload import progress_bar, shape_of
from flows.pim.gemm import PimGemm, gemm_plan, random_gemm
from flows.pim.rtl_device import RtlPimDevice, RtlPimSession
from flows.pim.wrapper import SCOPE
from flows.view.waves import PIM_GROUPS, save_view
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.golden.pim.device import GoldenPimDevice
from sw.pim.cycles import gemm_cycles, hides_turnaround, refresh_factor, tck_to_cycles
from sw.pim.p3 import P3_DESIGN, linear_cycles
from sw.pim.program import PimProgram

__all__ = ["gemm_answer", "run_gemm"]

_NOT_HERE = (("workload", None), ("plots", None), ("weights", None), ("text", None), ("memory_latency", 32),
             ("memory_bandwidth", 1.0))
_MOST_OPERANDS = 1 << 26        # random float64 values are made of them


Observer = Callable[[RtlPimSession, PimProgram], None]


def run_gemm(args: argparse.Namespace, config: PimConfig) -> bool:
    """Run a GEMM on the golden device and, unless told otherwise, on the RTL; show cycles beside the law.

    Raises
    ------
    ValueError
        If something was asked for that a PIM has not got; before anything is built.
    """
    if args.waves is not None:
        if args.device == "golden":
            raise ValueError("--waves needs --device rtl: the golden device has no signals")
        check_waves_file(args.waves)
    answer = gemm_answer(args, config)
    if args.json:
        print_json(answer)
    else:
        _show(args, answer)
    return answer["match"] is not False


def gemm_answer(args: argparse.Namespace, config: PimConfig, *, observe: Observer | None = None) -> dict[str, Any]:
    """Run the GEMM that the arguments ask for, and return what is known of it as plain JSON types.

    Parameters
    ----------
    args : Namespace
        With those of `heddle run`.
    config : PimConfig
    observe : function of a session and a program, or None
        Called behind the run on the RTL, whose runs have events then.

    Raises
    ------
    ValueError
        If something was asked for that a PIM has not got; before anything is built.
    """
    refuse_options_of_arrays(args, _NOT_HERE, "--gemm M,N,K")
    if args.gemm is None or args.dataflow != "auto":
        raise ValueError("a PIM takes --gemm M,N,K, without --dataflow")
    for name, holds, rule in (("stall", 0 <= args.stall <= 0.95, "between 0 and 0.95 (a probability)"),
                              ("seed", 0 <= args.seed < 1 << 62, "between 0 and 2**62 - 1")):
        if not holds:
            raise ConfigError(f"--{name} must be {rule}, not {getattr(args, name)!r}")
    m, n, k = shape_of(args.gemm)
    channels = 1 if args.channels is None else args.channels
    plan = gemm_plan(config, channels, n, k)
    if m < 1:
        raise ValueError(f"--gemm must have at least one row of activations, not {m}")
    if max(m, n) * k > _MOST_OPERANDS:
        raise ConfigError(f"--gemm must have at most {_MOST_OPERANDS} activations and {_MOST_OPERANDS} weights, "
                          f"not {m * k} and {n * k}")
    golden_device = GoldenPimDevice(config, channels)
    gemm = random_gemm(plan, m, args.seed)
    longest = max(len(words) for words in gemm.program.lists)
    device = None
    if args.device == "rtl":
        device = RtlPimDevice(config, channels, longest_list=longest, traced=observe is not None, waves=args.waves)
    expected = gemm.results(golden_device.open().run(gemm.program, None, gemm.inputs).outputs)
    error = float(np.abs(expected - gemm.exact).max())
    law = gemm_cycles(config, m, k, plan.outputs, ping_pong=hides_turnaround(config))
    answer: dict[str, Any] = {
        "config": config.digest(), "workload": f"gemm {m},{n},{k}", "device": args.device, "channels": channels, "match": None,
        "cycles": None, "law_cycles": float(law), "law_cycles_refreshed": float(law * refresh_factor(config)), "macs": m * n * k,
        "peak_macs_per_cycle": config.macs_per_cycle * channels, "utilization": None, "commands": longest, "max_error": error}
    if (config.timing, config.wtype, config.streams) == P3_DESIGN:
        answer["p3_law_cycles"] = float(tck_to_cycles(config, linear_cycles(k, n, m, channels=channels)))
    if device is not None:
        answer |= _simulate(args, device, gemm, expected, observe)
        answer["utilization"] = answer["macs"] / (answer["cycles"] * answer["peak_macs_per_cycle"])
    return answer


def _simulate(args: argparse.Namespace, device: RtlPimDevice, gemm: PimGemm, expected: Any,
              observe: Observer | None) -> dict[str, Any]:
    with progress_bar() as (started, _):
        before = time.perf_counter()
        device.build()
        build = time.perf_counter() - before
        started(gemm.program.name, 0)
        if args.waves is not None:
            save_view(args.waves, device.emission.verilog, device.emission.manifest, PIM_GROUPS, scope=SCOPE)
        session = device.open(stall=args.stall, seed=args.seed)
        before = time.perf_counter()
        result = session.run(gemm.program, None, gemm.inputs)
        seconds = time.perf_counter() - before
        if observe is not None:
            observe(session, gemm.program)
        session.close()
    return {"match": bool(np.array_equal(gemm.results(result.outputs), expected)), "cycles": result.cycles,
            "counters": result.counters, "build_seconds": build, "run_seconds": seconds,
            "sim_cycles_per_second": result.cycles / seconds}


def _show(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    channels = f"{answer['channels']} channel{'s' if answer['channels'] > 1 else ''}"
    table = Table(title=escape(f"{answer['workload']} on {args.preset or args.config} ({args.device}), {channels}"),
                  title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("cycles", "law", "law, refreshed", "util", "commands", "max |error|", "match"):
        table.add_column(head, justify="right")
    match = {True: "exact", False: "DIFFERS", None: "–"}[answer["match"]]
    cycles, used = ("–" if answer[key] is None else format(answer[key], form) for key, form in (
        ("cycles", ",d"), ("utilization", ".1%")))
    table.add_row(cycles, f"{answer['law_cycles']:,.0f}", f"{answer['law_cycles_refreshed']:,.0f}", used,
                  f"{answer['commands']:,}", f"{answer['max_error']:.3g}", match)
    console.print(table)
    if "p3_law_cycles" in answer:
        console.print(f"P3-LLM's law, with its units and layout: {answer['p3_law_cycles']:,.0f}")
    console.print("law: passes · K · outputs of a channel / weights a cycle (rows in turn); refreshed: over what refreshes leave")
    console.print("match: results against the golden device; error: against float64; cycles: of the slowest channel")
    if args.waves is not None:
        console.print(escape(f"waves of channel 0: {args.waves}; for GTKWave: {args.waves.with_suffix('.gtkw')}"))
