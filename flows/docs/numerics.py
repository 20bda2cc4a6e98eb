"""Makes `docs/numerics.md`: every number format, from the tables of `hw` and from what the codecs do."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from flows import format_tables as tables
from flows.docs.markdown import table
from flows.docs.numerics_text import ADDING, EXAMPLES, INTRODUCTION, NAMES, OPTION_DOCS, PROSE, USING
from hw.elements import ELEMENTS, FloatFormat
from hw.families import Format, ScaledFormat, TernaryFormat
from hw.formats import ALIASES, FORMATS, OPTIONS, format_named
from sw.formats import FormatError, dequantize, quantize
from sw.formats.ternary import decode_quads

__all__ = ["numerics_page"]

F = TypeVar("F", bound=Format)

_PROBES = (
    ("NaN", float("nan")), ("∞", float("inf")), ("10³⁸", 1e38), ("10⁶", 1e6), ("1", 1.0), ("10⁻⁶", 1e-6), ("10⁻⁴⁰", 1e-40),
    ("0", 0.0),
)
"""What a block is probed with, alone among zeros."""


def numerics_page() -> str:
    """Return docs/numerics.md."""
    parts = ["# Numerics\n", "*Generated from `hw/formats.py` and the codecs of `sw/formats` by `make docs`; edit those.*\n",
             INTRODUCTION, "## Names\n", NAMES, _names(), "## Formats\n"]
    for title, formats in tables.sections().items():
        parts += [f"### {title}\n", *_section(title, formats)]
    parts += ["## Corner cases\n", _corners(), "## Elements\n", _elements(), USING, ADDING]
    return "\n".join(parts)


def _names() -> str:
    options = [(f"`-{name}`", *OPTION_DOCS[name]) for name in OPTIONS]
    aliases = ", ".join(f"`{short}` is `{name}`" for short, name in ALIASES.items())
    return table(("option", "meaning", "formats with"), options) + f"\nShort names: {aliases}.\n"


def _section(title: str, formats: list[Format]) -> list[str]:
    rows = [(f"`{fmt.name}`", *tables.bits_labels(fmt), fmt.block or "–", tables.content_label(fmt), tables.scale_label(fmt),
             fmt.doc, fmt.source) for fmt in formats]
    parts = [PROSE.get(title, ""), table(("format", "bits", "stored", "block", "value", "scale", "what", "source"), rows)]
    for equation, names in _shared(formats, lambda fmt: tables.equation(fmt)).items():
        parts.append(f"{_listed(names, formats)}`{equation}`\n")
    scaled = [fmt for fmt in formats if isinstance(fmt, ScaledFormat)]
    for listed, names in _shared(scaled, lambda fmt: "\n".join(f"* {rule}" for rule in tables.rules(fmt))).items():
        parts.append(f"{_listed(names, formats).strip() or 'Rules:'}\n\n{listed}\n")
    blocks = [fmt for fmt in formats if fmt.block]
    example = format_named(EXAMPLES[title]) if title in EXAMPLES else (blocks or formats)[0]
    word = [(bits, f"`{field.name}`", f"{field.count} × {field.width}" if field.count > 1 else field.width, field.doc)
            for bits, field in tables.bit_ranges(example.word)]
    padding = 8 * example.word.bytes - example.word.bits
    if example.block:
        size = f"{example.word.bytes} bytes" + (f", {padding} bits of padding at the top" if padding else "")
        parts += [f"Packed word of `{example.name}` ({size}):\n", table(("bits", "field", "width", "meaning"), word)]
    if isinstance(example, TernaryFormat):
        parts += ["Slots; the sign bit negates all weights of a quad:\n", _quads()]
    return parts


def _quads() -> str:
    """Return the weights of a quad for every slot, its sign bit being 0."""
    signs = {-1: "−", 0: "0", 1: "+"}
    quads = ["".join(signs[weight] for weight in quad) for quad in decode_quads(np.arange(16), np.zeros(16, np.uint8)).tolist()]
    return table(("slots", "weights 0 to 3 of the quad"),
                 [(f"{low:#x}…{low + 3:#x}", ", ".join(f"`{quad}`" for quad in quads[low:low + 4])) for low in range(0, 16, 4)])


def _shared(formats: Sequence[F], text: Callable[[F], str]) -> dict[str, list[str]]:
    """Return what is said of formats → the names that it is said of."""
    found: dict[str, list[str]] = {}
    for fmt in formats:
        found.setdefault(text(fmt), []).append(f"`{fmt.name}`")
    return found


def _listed(names: list[str], formats: Sequence[Format]) -> str:
    """Return the names before what is said of them; nothing where it is said of all."""
    return "" if len(names) == len(formats) else ", ".join(names) + ": "


def _corners() -> str:
    """Return what becomes of extreme values, as the codecs do it."""
    same: dict[tuple[str, ...], list[str]] = {}
    for title, formats in tables.sections().items():
        by_cells: dict[tuple[str, ...], list[str]] = {}
        for fmt in formats:
            by_cells.setdefault(tuple(_probe(fmt, value) for _, value in _PROBES), []).append(f"`{fmt.name}`")
        for cells, names in by_cells.items():
            same.setdefault(cells, []).append(f"all of *{title}*" if len(names) == len(formats) else ", ".join(names))
    head = ("formats", *(name for name, _ in _PROBES))
    return ("A row of zeros in which one value is x, quantized and dequantized. *Kept*: within the format's precision; "
            "*refused*: an error that names the place; else what it becomes.\n\n"
            + table(head, [("; ".join(names), *cells) for cells, names in same.items()]))


def _probe(fmt: Format, value: float) -> str:
    array = np.zeros((1, max(8, fmt.block)), np.float32)
    array[0, 0] = value
    try:
        found = float(dequantize(quantize(array, fmt))[0, 0])
    except FormatError:
        return "refused"
    if np.isnan(found) or np.isinf(found):
        return tables.number(found)
    return "kept" if found and abs(found / float(array[0, 0]) - 1) <= 0.25 else f"{found:.3g}".replace("-", "−")


def _elements() -> str:
    used = {fmt.element.name for fmt in FORMATS.values() if isinstance(fmt, ScaledFormat)}
    used |= {fmt.scale.name for fmt in FORMATS.values() if isinstance(fmt, ScaledFormat) and fmt.scale is not None}
    rows = [(f"`{element.name}`", element.bits, tables.element_facts(element)) for element in ELEMENTS.values()
            if element.name in used]
    parts = [table(("element", "bits", "codes"), rows)]
    for element in ELEMENTS.values():
        if element.name in used and (codes := tables.code_rows(element)):
            signed = isinstance(element, FloatFormat) and element.signed
            parts += [f"`{element.name}`" + (f"; bit {element.bits - 1} negates:\n" if signed else ":\n"),
                      table(("codes", "values"), codes)]
    return "\n".join(parts)
