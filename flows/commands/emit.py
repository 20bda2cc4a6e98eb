"""`heddle emit`: Verilog, manifest and C headers of a config."""

import argparse
import time
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from flows.commands.common import add_config_arguments, add_json_argument, config_from, console, print_json
from flows.emit import emit

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_config_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files; made if missing")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Write the files and say what they are."""
    config = config_from(args)
    if not args.output.name:
        raise ValueError("-o must name a folder, not ''")
    if args.output.exists() and not args.output.is_dir():
        raise ValueError(f"-o must be a folder, not the file {str(args.output)!r}")
    started = time.perf_counter()
    emission = emit(config, args.output)
    manifest = emission.manifest
    answer = {"digest": config.digest(), "top": emission.top, "files": [str(emission.folder / name) for name in emission.files],
              "modules": len(manifest["modules"]), "verilog_lines": manifest["verilog_lines"],
              "seconds": time.perf_counter() - started}
    if args.json:
        print_json(answer)
        return True
    title = f"{args.preset or args.config}: module {answer['top']}, config {answer['digest']}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    for name in answer["files"]:
        table.add_row(escape(name), f"{Path(name).stat().st_size:,} bytes")
    console.print(table)
    console.print(f"{answer['modules']} modules, {answer['verilog_lines']:,} lines of Verilog, {answer['seconds']:.1f} s")
    return True
