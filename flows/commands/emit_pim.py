"""`heddle emit pim-…`: Verilog of one pseudo-channel of a PIM logic die."""

import argparse
import time

from rich.markup import escape
from rich.table import Table

from flows.commands.common import check_output_folder, console, log, print_json
from flows.emission.memories import MACRO_BITS
from flows.pim.emit import PIM_TOP, emit_pim
from hw.errors import ConfigError
from hw.pim.config import PimConfig

__all__ = ["run_pim"]

_ACCELERATORS_ONLY = (("reset", "sync"), ("memories", "inferred"), ("bench", False), ("smoke", False), ("flows", False),
                      ("macro_bits", MACRO_BITS))


def run_pim(args: argparse.Namespace, config: PimConfig) -> bool:
    """Write the files of a logic die and say what they are; return whether linters found nothing, if asked."""
    for name, default in _ACCELERATORS_ONLY:
        if getattr(args, name) != default:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} must be left out for a PIM, which has none, not given with {_name(args)!r}")
    check_output_folder(args.output, "-o")
    started = time.perf_counter()
    emission = emit_pim(config, args.output)
    seconds = time.perf_counter() - started
    for name in emission.kept:
        log.print(escape(f"{args.output / name}: of an earlier emission, but changed since, so it stays"), soft_wrap=True)
    answer = {"digest": config.digest(), "top": PIM_TOP, "files": [str(emission.folder / name) for name in emission.files],
              "modules": len(emission.manifest["modules"]), "verilog_lines": emission.manifest["verilog_lines"],
              "reset": "sync", "memories": "inferred", "memory_macros": [], "seconds": seconds}
    if args.lint:
        from flows.lint import lint

        report = lint(emission)
        answer |= {"lint": {linter: list(warnings) for linter, warnings in report.warnings.items()}, "lint_clean": report.clean}
    if args.json:
        print_json(answer)
        return bool(answer.get("lint_clean", True))
    title = f"{_name(args)}: module {PIM_TOP}, config {config.digest()}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    for name in emission.files:
        table.add_row(escape(str(emission.folder / name)), f"{(emission.folder / name).stat().st_size:,} bytes")
    console.print(table)
    console.print(f"{answer['modules']} modules, {answer['verilog_lines']:,} lines of Verilog, {seconds:.1f} s")
    for linter, warnings in answer.get("lint", {}).items():
        console.print(f"{linter}: {len(warnings) or 'no'} warnings")
        for warning in warnings:
            console.print(f"  {escape(warning)}", soft_wrap=True)
    return bool(answer.get("lint_clean", True))


def _name(args: argparse.Namespace) -> str:
    return str(args.preset or args.config)
