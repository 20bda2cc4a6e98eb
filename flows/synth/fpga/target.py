"""The targets `ecp5`, `ice40` and `gowin` of `heddle synth`: arguments and tables."""

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.board_sim import BOARD_TOP, board_verilog
from flows.synth.fpga.flow import FpgaOptions, implement, tool_versions
from flows.synth.fpga.parts import DEFAULT_PARTS, PARTS, RESOURCES, Part, part_named
from hw.bridge.config import BoardConfig
from hw.config import AcceleratorConfig

__all__ = ["DOC", "add_arguments", "board_of", "check", "options_from", "run", "show", "whole"]

DOC = "place and route on a board: accelerator, memory and host bridge"


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the arguments of all FPGA targets."""
    defaults = ", ".join(f"{target}: {part}" for target, part in DEFAULT_PARTS.items())
    group.add_argument("--part", metavar="PART", help=f"one of {', '.join(PARTS)} (default: {defaults})")
    group.add_argument("--freq", type=float, metavar="MHZ", help="clock to aim at (default: the oscillator of the part's board)")
    group.add_argument("--seed", type=int, default=1, metavar="N", help="of placement (default: %(default)s)")
    group.add_argument("--tries", type=int, default=FpgaOptions().tries, metavar="N",
                       help="seeds to try, one after the other, when the router gets stuck (default: %(default)s)")
    group.add_argument("--no-pnr", action="store_true", help="stop after synthesis")
    group.add_argument("--no-dsp", action="store_true", help="multipliers in LUTs")
    group.add_argument("--memory", type=_bytes, default=BoardConfig().memory_bytes, metavar="BYTES",
                       help="on-chip memory in place of DRAM, a power of two (default: %(default)s)")
    group.add_argument("--baud", type=int, default=BoardConfig().baud, metavar="BAUD", help="of the host (default: %(default)s)")


def _bytes(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, not {text!r}") from None


def options_from(args: argparse.Namespace) -> FpgaOptions:
    """Return the options that the arguments state."""
    return FpgaOptions(freq_mhz=args.freq, seed=args.seed, tries=args.tries,
                       route=not args.no_pnr and not args.block, dsp=not args.no_dsp)


def board_of(args: argparse.Namespace, part: Part) -> BoardConfig:
    """Return the board around the accelerator."""
    return BoardConfig(memory_bytes=args.memory, clock_hz=part.clock_hz, baud=args.baud)


def check(args: argparse.Namespace) -> None:
    """Refuse bad arguments, and a tool that is missing."""
    board_of(args, part_named(args.target, args.part))
    tool_versions(args.target, options_from(args))


def check_bare(args: argparse.Namespace) -> None:
    """Refuse what only a board has: a design that has none is synthesized, and cannot be routed.

    Raises
    ------
    ValueError
        If place and route, or a part of a board, is asked for.
    """
    usual = BoardConfig()
    for name, given, default in (("--memory", args.memory, usual.memory_bytes), ("--baud", args.baud, usual.baud)):
        if given != default:
            raise ValueError(f"{name} must be left out for a PIM, which has no board, not {given!r}")
    if not args.no_pnr and not args.block:
        raise ValueError("--no-pnr must be given for a PIM, whose ports are more than a package has pins")


def whole(config: AcceleratorConfig, args: argparse.Namespace) -> tuple[str, str]:
    """Return the Verilog that is synthesized when no block is asked for, and its top module: a board."""
    return board_verilog(config, board_of(args, part_named(args.target, args.part))), BOARD_TOP


def run(verilog: str, top: str, args: argparse.Namespace, directory: Path | None) -> dict[str, Any]:
    """Synthesize, and place and route unless it is a block or was not asked for."""
    return implement(verilog, top, part_named(args.target, args.part), options_from(args), directory)


def show(answer: dict[str, Any], console: Console) -> None:
    """Print what `run` returned."""
    part = PARTS[answer["part"]]
    table = Table(title=escape(f"{answer['top']} on {part.name} ({part.board}), {answer['stage']}"), title_justify="left",
                  box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for head in ("used", "available", "share"):
        table.add_column(head, justify="right")
    for name in RESOURCES:
        used, available = answer[name], answer["available"][name]
        table.add_row(name, f"{used:,}", f"{available:,}", f"{used / available:.0%}" if available else "–")
    console.print(table)
    for text in answer["unrouted"]:
        console.print(escape(text))
    if answer["fmax_mhz"] is not None:
        path = answer["critical_path"]
        console.print(f"Fmax {answer['fmax_mhz']:.1f} MHz, asked {answer['freq_mhz']:g} MHz, seed {answer['seed']}")
        if path is not None:
            console.print(escape(f"critical path {path['ns']} ns, {path['routing_ns']} of it routing, {path['levels']} cells\n"
                                 f"  from {path['start']}\n  to   {path['end']}"))
    if answer["bitstream"]:
        console.print(escape(f"bitstream {answer['bitstream']} (pins of {part.board}; not tried on hardware)"))
    console.print(escape(", ".join(f"{name}: {version}" for name, version in answer["versions"].items())
                         + f"; {answer['seconds']:.1f} s"))
