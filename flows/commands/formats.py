"""`heddle formats`: number formats, their sizes, packed words and code tables."""

import argparse
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from flows import format_tables as tables
from flows.commands.common import add_json_argument, console, print_json
from hw.elements import FloatFormat
from hw.families import Format, ScaledFormat
from hw.formats import FORMATS, format_named

__all__ = ["add_arguments", "describe", "run"]

_WIDE = 112
"""Columns of a terminal from which on sources fit into the table."""

_LEGEND = """bits    of a value with its share of a block's scale and metadata
stored  the same with the block padded to whole bytes
+       and coded exponents, as many as the data decide
scale   of a block, then what has a float32 scale besides
heddle formats NAME shows packed word, codes, rules and source of one, also with
another size or other options: int4-g32, mxfp4-b16-ceil, hss-4:6-2:4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="show the packed word, the codes and the rules of this format: a listed name, or one with another "
                        "size or options, such as int4-g32-bf16")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Print the table of all formats, or the details of some."""
    chosen = [format_named(name) for name in args.names]
    if args.json:
        print_json({fmt.name: describe(fmt) for fmt in chosen or FORMATS.values()})
    elif chosen:
        for index, fmt in enumerate(chosen):
            if index:
                console.print()
            _show(fmt)
    else:
        _list()
    return True


def describe(fmt: Format) -> dict[str, Any]:
    """Return a format as JSON has it."""
    element, scale = tables.element_of(fmt), fmt.scale if isinstance(fmt, ScaledFormat) else None
    return {
        "bits_per_weight": fmt.bits_per_weight,
        "stored_bits_per_weight": fmt.stored_bits_per_weight,
        "block": fmt.block,
        "element": None if element is None else element.name,
        "scale": None if scale is None else scale.name,
        "outer_scale": tables.outer_label(fmt) or None,
        "fields": [{"name": field.name, "low_bit": fmt.word.offsets[field.name], "width": field.width, "count": field.count,
                    "doc": field.doc} for field in fmt.word.fields],
        "beside": list(fmt.side),
        "equation": tables.equation(fmt),
        "rules": tables.rules(fmt) if isinstance(fmt, ScaledFormat) else [],
        "options": tables.options_of(fmt),
        "doc": fmt.doc,
        "source": fmt.source,
    }


def _list() -> None:
    wide = console.width >= _WIDE
    widest = max(map(len, FORMATS))
    for title, formats in tables.sections().items():
        table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                      padding=(0, 1, 0, 0))
        table.add_column("format", style="cyan", no_wrap=True, min_width=widest)
        for head, width in (("bits", 5), ("stored", 6), ("block", 5)):
            table.add_column(head, justify="right", no_wrap=True, min_width=width)
        table.add_column("value", no_wrap=True, min_width=10)
        table.add_column("scale", no_wrap=True, min_width=12)
        if wide:
            table.add_column("source", no_wrap=True, overflow="ellipsis")
        for fmt in formats:
            cells = (escape(fmt.name), *tables.bits_labels(fmt), str(fmt.block or "–"), tables.content_label(fmt),
                     tables.scale_label(fmt))
            table.add_row(*cells, escape(fmt.source)) if wide else table.add_row(*cells)
        console.print(table)
    console.print(_LEGEND)


def _show(fmt: Format) -> None:
    console.print(f"[bold cyan]{escape(fmt.name)}[/]: {escape(fmt.doc)}")
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    beside = f"; beside the blocks: {', '.join(fmt.side)}" if fmt.side else ""
    padding = 8 * fmt.word.bytes - fmt.word.bits if fmt.block else 0
    rows = [("source", fmt.source), ("value", tables.equation(fmt).removeprefix("value = ")),
            ("bits", f"{fmt.bits_per_weight:.6g} a value, {fmt.stored_bits_per_weight:.6g} stored{beside}"),
            ("block", f"{fmt.block} values in {fmt.word.bytes} bytes" + (f", {padding} bits of padding" if padding else "")
             if fmt.block else "none: values lie next to each other")]
    if isinstance(fmt, ScaledFormat):
        rows += [("rules" if not index else "", rule) for index, rule in enumerate(tables.rules(fmt))]
    if options := tables.options_of(fmt):
        rows.append(("options", ", ".join(f"-{option}" for option in options)))
    for name, text in rows:
        facts.add_row(name, escape(text))
    console.print(facts)
    _show_word(fmt)
    _show_codes(fmt)


def _show_word(fmt: Format) -> None:
    table = Table(title="packed word" if fmt.block else "stored value", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("bits", "field"):
        table.add_column(head, no_wrap=True)
    table.add_column("width", justify="right", no_wrap=True)
    table.add_column("meaning")
    for bits, field in tables.bit_ranges(fmt.word):
        width = f"{field.count} × {field.width}" if field.count > 1 else f"{field.width}"
        table.add_row(bits, field.name, width, escape(field.doc))
    console.print(table)


def _show_codes(fmt: Format) -> None:
    element = tables.element_of(fmt)
    if element is None:
        return
    console.print(f"[bold]codes[/] {element.name}: {escape(tables.element_facts(element))}")
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for codes, values in tables.code_rows(element):
        table.add_row(codes, values)
    if table.row_count:
        console.print(table)
    if isinstance(element, FloatFormat) and element.signed and table.row_count:
        special = f", except {fmt.special_code:#x}" if isinstance(fmt, ScaledFormat) and fmt.specials else ""
        console.print(f"and the same negated with bit {element.bits - 1} set{special}")
