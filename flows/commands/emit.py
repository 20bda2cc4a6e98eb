"""`heddle emit`: Verilog of a config and what other people's flows need with it."""

import argparse
import time
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    check_output_folder,
    config_from,
    console,
    log,
    output_folder,
    print_json,
)
from flows.commands.emit_pim import run_pim
from flows.commands.pim_config import ARRAY_OR_PIM, pim_config_from
from flows.emission.memories import MACRO_BITS
from flows.emit import MEMORIES, RESETS, Emission, EmitOptions, emit

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    parser.add_argument("-o", "--output", type=output_folder, required=True, metavar="DIR",
                        help="folder for the files; made if missing")
    parser.add_argument("--reset", choices=RESETS, default="sync", help="style of the reset, active high (default: sync)")
    parser.add_argument("--memories", choices=MEMORIES, default="inferred",
                        help="arrays that synthesis maps, or instances of macros with models in ram_models.v (default: inferred)")
    parser.add_argument("--macro-bits", type=int, default=MACRO_BITS, metavar="BITS",
                        help=f"smallest memory that becomes a macro (default: {MACRO_BITS})")
    parser.add_argument("--lint", action="store_true", help="read it with Verilator, and with Icarus where it is installed")
    parser.add_argument("--bench", action="store_true", help="write a smoke bench in plain Verilog as well")
    parser.add_argument("--smoke", action="store_true",
                        help="write the smoke bench and run it in Verilator, and in Icarus where it is installed")
    parser.add_argument("--flows", action="store_true", help="write files for FuseSoC, LibreLane and SiliconCompiler as well")
    add_json_argument(parser)


def _extras(args: argparse.Namespace, emission: Emission) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the further files that were asked for, and further keys of the answer."""
    names: list[str] = []
    answer: dict[str, Any] = {}
    if args.bench or args.smoke or args.flows:        # FuseSoC's simulation is the smoke bench
        from flows.smoke import write_smoke

        names += write_smoke(emission, args.output)
    if args.flows:
        from flows.packages import write_packages

        names += write_packages(emission, args.output)
    if args.lint:
        from flows.lint import lint

        report = lint(emission)
        answer = {"lint": {linter: list(warnings) for linter, warnings in report.warnings.items()}, "lint_clean": report.clean}
    if args.smoke:
        from flows.smoke import run_smokes

        answer["smoke"] = {result.simulator: result.line for result in run_smokes(emission, args.output)}
        answer["smoke_passed"] = all(line.startswith("PASS") for line in answer["smoke"].values())
    return names, answer


def run(args: argparse.Namespace) -> bool:
    """Write the files and say what they are; return whether linters found nothing and the smoke bench passed, if asked."""
    pim = pim_config_from(args)
    if pim is not None:
        return run_pim(args, pim)
    config = config_from(args, legal=ARRAY_OR_PIM)
    options = EmitOptions(reset=args.reset, memories=args.memories, macro_bits=args.macro_bits)
    check_output_folder(args.output, "-o")
    started = time.perf_counter()
    emission = emit(config, args.output, options)
    seconds = time.perf_counter() - started
    names, further = _extras(args, emission)
    for name in sorted(set(emission.kept) - set(names)):
        remark = "no part of this emission, but changed since an earlier one wrote it, so it stays"
        log.print(escape(f"{args.output / name}: {remark}"), soft_wrap=True)
    manifest = emission.manifest
    answer = {"digest": config.digest(), "top": emission.top,
              "files": [str(emission.folder / name) for name in (*emission.files, *names)],
              "modules": len(manifest["modules"]), "verilog_lines": manifest["verilog_lines"], "reset": options.reset,
              "memories": options.memories, "memory_macros": manifest["memory_macros"], "seconds": seconds, **further}
    held = bool(answer.get("lint_clean", True) and answer.get("smoke_passed", True))
    if args.json:
        print_json(answer)
        return held
    title = f"{args.preset or args.config}: module {answer['top']}, config {answer['digest']}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    for name in answer["files"]:
        table.add_row(escape(name), f"{Path(name).stat().st_size:,} bytes")
    console.print(table)
    console.print(f"{answer['modules']} modules, {answer['verilog_lines']:,} lines of Verilog, {answer['seconds']:.1f} s")
    for linter, warnings in answer.get("lint", {}).items():
        console.print(f"{linter}: {len(warnings) or 'no'} warnings")
        for warning in warnings:
            console.print(f"  {escape(warning)}", soft_wrap=True)
    for simulator, line in answer.get("smoke", {}).items():
        console.print(escape(f"smoke bench in {simulator}: {line}"), soft_wrap=True)
    return held
