"""`heddle report`: estimates of speed per area and energy per MAC of an array; sizes and rates of a PIM."""

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import add_config_arguments, add_json_argument, config_from, console, log, print_json
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.commands.workload import shape_of
from flows.emit import emit
from flows.synth.asic import STAGE, synthesize
from flows.synth.asic_target import add_liberty_arguments, check, options_from
from flows.synth.efficiency import Work, efficiency, token_work, work_of
from flows.synth.technology import technology
from hw.config import AcceleratorConfig
from sw.generate import CompiledModel
from sw.models.llama import LlamaModel
from sw.workloads import gemm_workload, workload_named

__all__ = ["add_arguments", "run"]

_ROWS = (
    ("area", "mm2", "mm²"), ("  logic", "logic_mm2", "mm²"), ("  memory macros", "sram_mm2", "mm²"), ("clock", "mhz", "MHz"),
    ("utilization", "utilization", ""), ("sustained", "gmacs", "GMAC/s"), ("sustained per area", "gmacs_per_mm2", "GMAC/s/mm²"),
    ("peak per area", "peak_gmacs_per_mm2", "GMAC/s/mm²"), ("MACs per area", "macs_per_mm2", "MAC/mm²"),
    ("tokens", "tokens_per_second", "tokens/s"), ("tokens per area", "tokens_per_second_per_mm2", "tokens/s/mm²"),
    ("energy", "pj_per_mac", "pJ/MAC"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--gemm", metavar="M,N,K", help="one GEMM (default, of an array: 128,768,768)")
    what.add_argument("--workload", metavar="NAME", help="a workload of `heddle list` with known shapes")
    what.add_argument("--model", type=Path, metavar="FOLDER", help="a Llama checkpoint of Hugging Face: one more token")
    parser.add_argument("--position", type=int, metavar="N", help="tokens before it (default: half of the model's context)")
    parser.add_argument("--area", action="store_true", help="of a PIM: synthesize its logic die as well (of an array always)")
    add_liberty_arguments(parser.add_argument_group("cells"))
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Synthesize (or take it from the cache), predict, and print the estimates."""
    pim = pim_config_from(args)
    if pim is not None:
        from flows.commands.report_pim import report_pim

        return report_pim(args, pim)
    if args.area:
        raise ValueError("--area must be left out for an array, whose area is always made")
    config = config_from(args, legal=ARRAY_OR_PIM)
    check(args)
    name, work = _work(args, config)
    with log.status("synthesis"):
        synthesis = synthesize(emit(config).verilog, options=options_from(args))
    coefficients = technology()
    answer = {
        "config": config.digest(), "workload": name, "stage": f"estimate, {STAGE}", "tokens": work.tokens,
        "macs": work.macs, "predicted_cycles": work.cycles, "bytes_moved": work.bytes_moved,
        **efficiency(config, synthesis, work, coefficients),
        "liberty": synthesis["liberty"], "activity": synthesis["activity"], "versions": synthesis["versions"],
        "coefficients": {name: {"value": entry.value, "unit": entry.unit, "grade": entry.grade, "source": entry.source}
                         for name, entry in coefficients.entries.items()},
        "notes": synthesis["notes"],
    }
    if args.json:
        print_json(answer)
    else:
        _show(args, answer)
    return True


def _work(args: argparse.Namespace, config: AcceleratorConfig) -> tuple[str, Work]:
    """Return name and predicted work of what was asked for."""
    if args.model is None:
        if args.position is not None:
            raise ValueError("--position must go with --model")
        workload = workload_named(args.workload) if args.workload else gemm_workload(*shape_of(args.gemm or "128,768,768"))
        return workload.name, work_of(config, workload)
    model = LlamaModel(args.model)
    position = model.config.context // 2 if args.position is None else args.position
    compiled = CompiledModel(config, model.config, model.checkpoint.weights(), chunk=1)
    return f"{args.model.name}, token {position}", token_work(compiled, position)


def _show(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    title = f"{args.preset or args.config}, {answer['workload']}, {answer['liberty']['name']}: estimates, {STAGE}"
    console.print(escape(title), style="italic")
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, key, unit in _ROWS:
        table.add_row(name, _number(answer[key], key), unit)
    for part, value in answer["pj_per_mac_parts"].items():
        table.add_row(f"  {part}", _number(value, part), "pJ/MAC")
    console.print(table)
    token = "the model's, with its logits" if args.model is not None else "a row of activations"
    console.print(escape(f"clock: {answer['mhz_source']}; cycles: predicted, {answer['predicted_cycles']:,}; a token is {token}"))
    for note in answer["notes"]:
        console.print(escape(f"note: {note}"), style="dim")
    for line in technology().sources():
        console.print(escape(line), style="dim")


def _number(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if key == "utilization" else f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"
