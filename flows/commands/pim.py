"""`heddle run pim-…`: a GEMM on channels of a PIM, golden and RTL, cycles beside the law."""

import argparse
import time
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import console, print_json
from flows.commands.workload import progress_bar, shape_of
from flows.pim.rtl_device import RtlPimDevice
from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.golden.pim.device import GoldenPimDevice
from sw.pim.cycles import gemm_cycles, hides_turnaround, refresh_factor
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program
from sw.pim.plain import PLAIN_TYPES

__all__ = ["run_gemm"]

_NOT_HERE = (("workload", None), ("waves", None), ("plots", None), ("weights", None), ("text", None), ("memory_latency", 32),
             ("memory_bandwidth", 1.0))
_MOST_OPERANDS = 1 << 26        # random float64 values are made of them


def run_gemm(args: argparse.Namespace, config: PimConfig) -> bool:
    """Run a GEMM on the golden device and, unless told otherwise, on the RTL; show cycles beside the law.

    Raises
    ------
    ValueError
        If something was asked for that a PIM has not got; before anything is built.
    """
    for name, usual in _NOT_HERE:
        if getattr(args, name) != usual:
            raise ValueError(f"--{name.replace('_', '-')} is for arrays; a PIM takes --gemm M,N,K")
    if args.gemm is None or args.dataflow != "auto":
        raise ValueError("a PIM takes --gemm M,N,K, without --dataflow")
    for name, holds, rule in (("stall", 0 <= args.stall <= 0.95, "between 0 and 0.95 (a probability)"),
                              ("seed", 0 <= args.seed < 1 << 62, "between 0 and 2**62 - 1")):
        if not holds:
            raise ConfigError(f"--{name} must be {rule}, not {getattr(args, name)!r}")
    m, n, k = shape_of(args.gemm)
    channels = 1 if args.channels is None else args.channels
    plan = LinearPlan(config=config, channels=channels, n=n, k=k)
    if m < 1:
        raise ValueError(f"--gemm must have at least one row of activations, not {m}")
    if max(m, n) * k > _MOST_OPERANDS:
        raise ConfigError(f"--gemm must have at most {_MOST_OPERANDS} activations and {_MOST_OPERANDS} weights, "
                          f"not {m * k} and {n * k}")
    golden_device = GoldenPimDevice(config, channels)
    rng = np.random.default_rng(args.seed)
    weights, x = (_values(rng, shape, kind) for shape, kind in (((n, k), config.wtype), ((m, k), config.xtype)))
    program = linear_program(plan, f"GEMM {m}×{n}×{k}", weights, passes=ceil_div(m, config.rows_x))
    longest = max(len(words) for words in program.lists)
    device = RtlPimDevice(config, channels, longest_list=longest) if args.device == "rtl" else None
    inputs = linear_inputs(plan, program, x)
    golden = golden_device.open()
    expected = golden.run(program, None, inputs)
    error = float(np.abs(linear_outputs(plan, expected.outputs, m) - x.astype(np.float64) @ weights.T.astype(np.float64)).max())
    law = gemm_cycles(config, m, k, plan.outputs, ping_pong=hides_turnaround(config))
    answer: dict[str, Any] = {
        "config": config.digest(), "workload": f"gemm {m},{n},{k}", "device": args.device, "channels": channels, "match": None,
        "cycles": None, "law_cycles": float(law), "law_cycles_refreshed": float(law * refresh_factor(config)), "macs": m * n * k,
        "peak_macs_per_cycle": config.macs_per_cycle * channels, "utilization": None, "commands": longest, "max_error": error}
    if device is not None:
        answer |= _simulate(args, device, (plan, program, inputs, m), linear_outputs(plan, expected.outputs, m))
        answer["utilization"] = answer["macs"] / (answer["cycles"] * answer["peak_macs_per_cycle"])
    if args.json:
        print_json(answer)
    else:
        _show(args, answer)
    return answer["match"] is not False


def _values(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> Any:
    return rng.standard_normal(shape).astype(PLAIN_TYPES[kind]).astype(np.float32)


def _simulate(args: argparse.Namespace, device: RtlPimDevice, work: Any, expected: Any) -> dict[str, Any]:
    plan, program, inputs, m = work
    with progress_bar() as (started, _):
        before = time.perf_counter()
        device.build()
        build = time.perf_counter() - before
        started(program.name, 0)
        session = device.open(stall=args.stall, seed=args.seed)
        before = time.perf_counter()
        result = session.run(program, None, inputs)
        seconds = time.perf_counter() - before
        session.close()
    return {"match": bool(np.array_equal(linear_outputs(plan, result.outputs, m), expected)), "cycles": result.cycles,
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
    console.print("law: passes · K · outputs of a channel / weights a cycle (rows in turn); refreshed: over what refreshes leave")
    console.print("match: results against the golden device; error: against float64; cycles: of the slowest channel")
