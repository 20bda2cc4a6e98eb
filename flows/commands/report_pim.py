"""`heddle report pim-…`: sizes and rates of a PIM, predicted cycles of a product, and the area of its logic where asked for."""

import argparse
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import console, log, print_json
from flows.commands.pim_config import refuse_options_of_arrays
from flows.commands.workload import shape_of
from flows.pim.emit import emit_pim
from flows.synth.asic import STAGE, synthesize
from flows.synth.asic_target import check, options_from
from flows.synth.options import AsicOptions
from flows.view.pim_facts import buffers_of, facts_of
from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.pim.cycles import gemm_cycles, hides_turnaround, refresh_factor

__all__ = ["report_pim"]

_ARRAYS_ONLY = (("workload", None), ("model", None), ("position", None))
_CELLS = AsicOptions()


def report_pim(args: argparse.Namespace, config: PimConfig) -> bool:
    """Print sizes and rates; with `--gemm` cycles by the law, with `--area` what Yosys makes of the die.

    Raises
    ------
    ConfigError
        If something was asked for that a PIM has not got, or options of cells without `--area`.
    """
    refuse_options_of_arrays(args, _ARRAYS_ONLY, "--gemm M,N,K")
    if not args.area and options_from(args) != _CELLS:
        raise ConfigError("--area must be given with options of cells for a PIM, whose sizes and rates need none")
    answer = _figures(config)
    if args.gemm is not None:
        answer |= _product(config, args.gemm)
    if args.area:
        check(args)
        answer |= _area(args, config)
    if args.json:
        print_json(answer)
    else:
        _show(args, config, answer)
    return True


def _figures(config: PimConfig) -> dict[str, Any]:
    return {
        "config": config.digest(), "channels": config.n_pch, "clock_mhz": config.clock_mhz, "lanes": config.lanes,
        "lanes_needed": float(config.lanes_needed), "rows_x": config.rows_x, "peak_macs_per_cycle": config.macs_per_cycle,
        "gb_per_second": float(config.bandwidth), "gops": float(config.gops), "operations_per_byte": float(config.op_per_byte),
        "formats": {name: getattr(config, name) for name in ("wtype", "kvtype", "xtype", "ptype", "acc")},
        "burst_bytes": config.burst_bytes * config.streams, "interval_ns": config.interval_ps / 1000,
        "row_bytes": config.row_bytes, "capacity_bytes": config.capacity_bytes, "buffer_bytes": buffers_of(config),
        "refresh_efficiency": float(1 / refresh_factor(config)),
    }


def _product(config: PimConfig, text: str) -> dict[str, Any]:
    """Return the law's cycles of a product whose outputs are shared by all channels, and what follows from them."""
    m, n, k = shape_of(text)
    if min(m, n, k) < 1:
        raise ConfigError(f"--gemm must be of at least one row, output and input, not {text!r}")
    law = gemm_cycles(config, m, k, ceil_div(n, config.n_pch), ping_pong=hides_turnaround(config)) * refresh_factor(config)
    macs, seconds = m * n * k, float(law) / (config.clock_mhz * 1e6)
    return {"workload": f"gemm {m},{n},{k}", "macs": macs, "predicted_cycles": float(law),
            "utilization": macs / (float(law) * config.macs_per_cycle * config.n_pch), "gmacs": macs / seconds / 1e9,
            "rows_per_second": m / seconds}


def _area(args: argparse.Namespace, config: PimConfig) -> dict[str, Any]:
    with log.status("synthesis"):
        found = synthesize(emit_pim(config).verilog, options=options_from(args))
    physical = found["area_unit"] == "um2"
    mm2 = (found["area"] + found["memory_area"]) / 1e6 if physical and found["memory_area"] is not None else None
    return {
        "stage": f"estimate, {STAGE}",
        "area": found["area"], "area_unit": found["area_unit"], "memory_area": found["memory_area"],
        "mm2": mm2, "gops_per_mm2": float(config.gops) / mm2 if mm2 else None, "fmax_mhz": found["fmax_mhz"],
        "estimated_fmax_mhz": found["estimated_fmax_mhz"], "units": found["units"], "liberty": found["liberty"],
        "versions": found["versions"], "notes": found["notes"]}


def _show(args: argparse.Namespace, config: PimConfig, answer: dict[str, Any]) -> None:
    rows = [*facts_of(config), *((name.replace("_", " "), f"{count:,} B") for name, count in answer["buffer_bytes"].items())]
    _print_rows(f"{args.preset or args.config}: one of {config.n_pch} pseudo-channels, config {config.digest()}", rows)
    if "workload" in answer:
        _print_rows(f"{answer['workload']} on all channels, by the law: rows in turn, refreshed", [
            ("cycles", f"{answer['predicted_cycles']:,.0f}"), ("utilization", f"{answer['utilization']:.1%}"),
            ("rate", f"{answer['gmacs']:,.4g} GMAC/s"), ("rows of activations", f"{answer['rows_per_second']:,.0f} a second")])
    if "area" in answer:
        unit = "µm²" if answer["area_unit"] == "um2" else "NAND2"
        rows = [("cells", f"{answer['area']:,.0f} {unit}"), ("memory macros", f"{answer['memory_area']:,.0f} {unit}")]
        rows += [(f"  {one['block'].removeprefix('heddle_pim_')}", f"{one['area']:,.0f} {unit}") for one in answer["units"]]
        if answer["mm2"]:
            rows += [("area", f"{answer['mm2']:,.4g} mm²"), ("peak per area", f"{answer['gops_per_mm2']:,.4g} GOPS/mm²")]
        _print_rows(f"logic of a channel in {answer['liberty']['name']}, {STAGE}", rows)
        for note in answer["notes"]:
            console.print(escape(f"note: {note}"), style="dim")


def _print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    console.print(escape(title), style="italic")
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    console.print(table)
