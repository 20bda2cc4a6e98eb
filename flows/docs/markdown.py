"""Tables, and the note at the top of a page, in Markdown."""

import re
from collections.abc import Iterable, Sequence

from hw.isa import Field

__all__ = ["bit_ranges", "generated_note", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with a line for each row; `|` and what would read as HTML are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else re.sub(r"<(?=[A-Za-z/!?])", "&lt;", part) for index, part in enumerate(parts))


def generated_note(source: str) -> str:
    """Return the line that says what to edit instead of the page."""
    return f"*Generated from {source} by `make docs`; edit that.*\n"


def bit_ranges(fields: Iterable[Field]) -> list[tuple[str, Field]]:
    """Return `high:low` of each field, from bit 0 up, and the field."""
    ranges, low = [], 0
    for field in fields:
        high = low + field.width - 1
        ranges.append((f"{high}:{low}" if high > low else f"{low}", field))
        low = high + 1
    return ranges
