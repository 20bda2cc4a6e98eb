"""The target `asic` of `heddle synth`: its arguments and its table."""

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.emit import emit
from flows.synth.asic import STAGE, synthesize
from flows.synth.options import AsicOptions, load_liberty
from flows.synth.tools import find_tool
from hw.config import AcceleratorConfig

__all__ = ["DOC", "add_arguments", "add_liberty_arguments", "check", "options_from", "run", "show", "whole"]

DOC = "standard cells of a Liberty file"
_ROWS = 14
_PREFIX = "heddle_"         # of blocks that belong to no other design
_DEFAULTS = AsicOptions()


def add_liberty_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what decides cells and clock; `heddle report` takes them too."""
    group.add_argument("--liberty", default="generic", metavar="PATH",
                       help="cell library, .lib or .lib.gz; osu018: that of Debian's qflow-tech-osu018; "
                       "generic (default): NAND2 equivalents, no timing")
    group.add_argument("--clock-ns", type=float, default=_DEFAULTS.clock_ns, metavar="NS",
                       help="clock period to aim at (default: %(default)s)")
    group.add_argument("--dont-use", action="append", default=[], metavar="GLOB",
                       help="cells to leave out; may be given several times")
    group.add_argument("--flatten", action="store_true",
                       help="dissolve the hierarchy: buffers across blocks, no area by block, slow")
    group.add_argument("--macro-bits", type=int, default=_DEFAULTS.macro_bits, metavar="BITS",
                       help="clocked memories of so many bits or more stay SRAM macros (default: %(default)s)")
    group.add_argument("--activity", type=float, default=_DEFAULTS.activity, metavar="A",
                       help="transitions of a net per clock cycle, for power (default: %(default)s)")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add this target's arguments."""
    add_liberty_arguments(group)


def options_from(args: argparse.Namespace) -> AsicOptions:
    """Return the options that the arguments state."""
    return AsicOptions(liberty=args.liberty, clock_ns=args.clock_ns, dont_use=tuple(args.dont_use), flatten=args.flatten,
                       macro_bits=args.macro_bits, activity=args.activity)


def check(args: argparse.Namespace) -> None:
    """Refuse bad arguments, a library that cannot serve, and a Yosys that is missing."""
    load_liberty(options_from(args).liberty)
    find_tool("yosys")


def check_bare(args: argparse.Namespace) -> None:
    """Accept everything: no design needs a board here."""


def whole(config: AcceleratorConfig, args: argparse.Namespace) -> tuple[str, str]:
    """Return the Verilog that is synthesized when no block is asked for, and its top module: the accelerator."""
    emission = emit(config)
    return emission.verilog, emission.top


def run(verilog: str, top: str, args: argparse.Namespace, directory: Path | None) -> dict[str, Any]:
    """Synthesize one module."""
    return synthesize(verilog, top=top, options=options_from(args), directory=directory)


def show(answer: dict[str, Any], console: Console) -> None:
    """Print what `run` returned."""
    unit = "µm²" if answer["area_unit"] == "um2" else "NAND2"
    library = answer["liberty"]
    console.print(escape(f"{answer['top']} in {library['name']}, {STAGE}"), style="italic")
    if answer["units"]:
        _show_units(answer, unit, console)
    table = _table(f"blocks, by the cells directly inside ({unit}, all instances)", "n", "own area", "share", "cells", "FFs")
    blocks = answer["by_block"]
    for entry in blocks[:_ROWS]:
        table.add_row(escape(entry["block"].removeprefix(_PREFIX)), f"{entry['instances']:,}", *_cells(entry, answer["area"]))
    if len(blocks) > _ROWS:
        rest = blocks[_ROWS:]
        sums = {key: sum(entry[key] for entry in rest) for key in ("own_area", "own_cells", "flip_flops")}
        table.add_row(f"{len(rest)} more", "", *_cells(sums, answer["area"]), style="dim")
    table.add_section()
    table.add_row("total", "", f"{answer['area']:,.0f}", "", f"{answer['cells']:,}", f"{answer['flip_flops']:,}", style="bold")
    console.print(table)
    console.print(f"flip-flops: {answer['sequential_area']:,.0f} {unit} of {answer['area']:,.0f}; "
                  f"logic depth: {answer['depth'] if answer['depth'] is not None else 'unknown'} cells")
    _show_memories(answer, unit, console)
    _show_timing(answer, console)
    for note in answer["notes"]:
        console.print(escape(f"note: {note}"), style="dim")
    versions = ", ".join(f"{name}: {version}" for name, version in answer["versions"].items() if version)
    console.print(escape(f"{versions}; library {library['name']} {library['digest']}; {answer['seconds']:.1f} s"))


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("block", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _show_units(answer: dict[str, Any], unit: str, console: Console) -> None:
    """Print what lies directly below the top, with all that it holds."""
    table = _table(f"units, with all that they hold ({unit})", "n", "cells", "share", "macros")
    for entry in answer["units"]:
        table.add_row(escape(entry["block"].removeprefix(_PREFIX)), f"{entry['instances']:,}", f"{entry['area']:,.0f}",
                      f"{entry['area'] / answer['area']:.1%}" if answer["area"] else "–",
                      f"{entry['memory_area']:,.0f}" if entry["memory_area"] else "–")
    table.add_section()
    table.add_row("total", "", f"{answer['area']:,.0f}", "", f"{answer['memory_area']:,.0f}", style="bold")
    console.print(table)


def _cells(entry: dict[str, Any], area: float) -> tuple[str, ...]:
    return (f"{entry['own_area']:,.0f}", f"{entry['own_area'] / area:.1%}" if area else "–", f"{entry['own_cells']:,}",
            f"{entry['flip_flops']:,}")


def _show_memories(answer: dict[str, Any], unit: str, console: Console) -> None:
    macros = [memory for memory in answer["memories"] if memory["kind"] == "macro"]
    for memory in macros:
        shape = f"{memory['instances']} × {memory['depth']}×{memory['width']} bits"
        console.print(escape(f"macro {memory['block'].removeprefix(_PREFIX)}/{memory['name']}: {shape}, "
                             f"about {memory['area'] * memory['instances']:,.0f} {unit}"))
    small = [memory for memory in answer["memories"] if memory["kind"] != "macro"]
    if small:
        bits = sum(memory["bits"] * memory["instances"] for memory in small)
        console.print(f"{len(small)} smaller memories, {bits:,} bits, are flip-flops")


def _show_timing(answer: dict[str, Any], console: Console) -> None:
    if answer["slack_ns"] is not None:
        path = answer["critical_path"]
        console.print(f"clock {answer['clock_ns']:g} ns: slack {answer['slack_ns']:.2f} ns, {answer['fmax_mhz']:.0f} MHz; "
                      f"{path['levels']} cells")
        console.print(escape(f"  from {path['start']}\n  to   {path['end']}"))
    elif answer["estimated_fmax_mhz"] is not None:
        console.print(f"estimate: {answer['estimated_fmax_mhz']:.0f} MHz from the logic depth")
    if answer["power_mw"] is not None:
        console.print(f"power at {answer['clock_ns']:g} ns, activity {answer['activity']:g}: "
                      f"{answer['power_mw']['total']:.1f} mW")
