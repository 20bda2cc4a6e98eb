"""`heddle reproduce`: figures of a paper beside ours, with how well what the paper says is known."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.common import add_json_argument, console, log, print_json
from flows.reproduce import GRADES, PAPERS, Options, Row, Value, rows_of
from flows.synth.options import load_liberty
from sw.models.llama import LlamaModel

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Compare figures of a paper with ours, which are computed or measured here and now. Long parts need an option; without "
        "it their rows say which. The exit status is 1 if a figure that must be met is not.")
    parser.add_argument("paper", nargs="?", metavar="PAPER", help="a name of --list")
    parser.add_argument("--list", action="store_true", help="list the papers and the options that each uses")
    long = parser.add_argument_group("long parts")
    long.add_argument("--model", type=Path, metavar="DIR", help="a Llama checkpoint: measure what formats cost it")
    long.add_argument("--windows", type=_count, metavar="N", help="windows of held-out text for that (default: 50)")
    long.add_argument("--rtl", action="store_true", help="simulate the generated Verilog")
    long.add_argument("--liberty", metavar="PATH",
                      help="synthesize into this cell library, .lib or .lib.gz (generic: NAND2 equivalents), for areas")
    long.add_argument("--data", type=Path, metavar="DIR", help="data that the paper's authors have published")
    add_json_argument(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> bool:
    """Make the rows, print them, and return whether all hold."""
    options = Options(model=args.model, windows=args.windows, rtl=args.rtl, liberty=args.liberty, data=args.data)
    if args.list:
        if args.paper is not None or options.given:
            raise ValueError("--list must go by itself")
        _list(args.json)
        return True
    if args.paper is None:
        raise ValueError("give a PAPER or --list")
    for option in ("model", "data"):
        folder = getattr(options, option)
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{option} must be a folder, not {str(folder)!r}")
    made = rows_of(args.paper, options)
    # What cannot be read is said before what takes long.
    if options.model is not None:
        LlamaModel(options.model)
    if options.liberty is not None:
        load_liberty(options.liberty)
    rows: list[Row] = []
    with log.status(escape(args.paper)) as status:
        for row in made:
            rows.append(row)
            status.update(escape(f"{args.paper}: {row.quantity}"))
    held = all(row.holds for row in rows)
    if args.json:
        print_json(_answer(args.paper, rows, held))
    else:
        _show(args.paper, rows)
    return held


def _answer(name: str, rows: Sequence[Row], held: bool) -> dict[str, Any]:
    return {"paper": name, "doc": PAPERS[name].doc, "source": PAPERS[name].source, "held": held,
            "rows": [row.to_dict() for row in rows]}


def _list(as_json: bool) -> None:
    if as_json:
        print_json({name: {"doc": paper.doc, "source": paper.source, "options": list(paper.options)}
                    for name, paper in PAPERS.items()})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("paper", style="cyan", no_wrap=True)
    for head in ("what", "source", "options"):
        table.add_column(head)
    for name, paper in PAPERS.items():
        table.add_row(name, escape(paper.doc), escape(paper.source), " ".join(f"--{option}" for option in paper.options))
    console.print(table)


def _show(name: str, rows: Sequence[Row]) -> None:
    console.print(escape(f"{PAPERS[name].source}: {PAPERS[name].doc}"))
    notes = {note: number for number, note in enumerate(dict.fromkeys(row.note for row in rows if row.note), 1)}
    must = any(row.target is not None for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("quantity", overflow="fold")
    for head in ("paper", "ours", *(["must be"] if must else [])):
        table.add_column(head, justify="right", overflow="fold")
    table.add_column("grade", no_wrap=True)
    table.add_column("note", justify="right", no_wrap=True)
    for row in rows:
        cells = [escape(row.quantity), escape(_text(row.paper)), escape(_text(row.ours))]
        if must:
            cells.append(_must(row))
        table.add_row(*cells, row.grade, str(notes.get(row.note, "")))
    console.print(table)
    for note, number in notes.items():
        console.print(escape(f"{number}  {note}"), style="dim")
    for grade in GRADES:
        if any(row.grade == grade for row in rows):
            console.print(f"[dim]{grade}: {GRADES[grade]}[/]")
    if failed := [row for row in rows if not row.holds]:
        console.print(escape(f"not met: {'; '.join(row.quantity for row in failed)}"), style="bold red")


def _must(row: Row) -> str:
    """Return what must be met, and whether it is: the target where it is not the paper's figure, how far from it, a mark."""
    if row.target is None:
        return ""
    target = "" if row.target == row.paper else _text(row.target)
    tolerance = f"±{row.tolerance:.2g}" if row.tolerance else ""
    mark = "" if row.ours is None else "[green]✓[/]" if row.holds else "[bold red]✗[/]"
    return " ".join(part for part in (escape(target), tolerance, mark) if part)


def _text(value: Value) -> str:
    """Return a figure for people: thousands apart, floats with four digits."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
